#include "client/loadgen/length_distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>

namespace sluice {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kHigh = LengthDistribution::kMaxLength;

std::vector<int64_t> DrawMany(const std::string& spec, int64_t low = 0, int64_t high = kHigh) {
  const auto lengths = LengthDistribution::Parse(spec);
  EXPECT_TRUE(lengths.ok()) << lengths.status();
  std::vector<int64_t> drawn;
  if (!lengths.ok()) return drawn;
  RandomStream random(5, 6);
  for (int i = 0; i < 100000; ++i) drawn.push_back(lengths->Draw(&random, low, high));
  return drawn;
}

double Mean(const std::vector<int64_t>& values) {
  double sum = 0;
  for (const int64_t value : values) sum += static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

double Deviation(const std::vector<int64_t>& values) {
  const double mean = Mean(values);
  double sum = 0;
  for (const int64_t value : values)
    sum += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
  return std::sqrt(sum / static_cast<double>(values.size()));
}

int64_t Median(std::vector<int64_t> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string WriteFile(const std::string& content) {
  const std::string path = ::testing::TempDir() + "lengths." + std::to_string(getpid());
  std::ofstream(path) << content;
  return path;
}

TEST(LengthDistribution, FixedIsAlwaysTheSame) {
  for (const char* spec : {"12", "fixed:12"}) {
    for (const int64_t drawn : DrawMany(spec)) ASSERT_EQ(drawn, 12);
  }
}

TEST(LengthDistribution, UniformReachesBothEndsEvenly) {
  const std::vector<int64_t> drawn = DrawMany("uniform:10,19");
  std::map<int64_t, int> counts;
  for (const int64_t length : drawn) ++counts[length];
  ASSERT_EQ(counts.size(), 10U);
  EXPECT_EQ(counts.begin()->first, 10);
  for (const auto& [length, count] : counts) EXPECT_NEAR(count, 10000, 400) << length;
}

TEST(LengthDistribution, NormalHasItsMeanAndDeviation) {
  const std::vector<int64_t> drawn = DrawMany("normal:500,40");
  EXPECT_NEAR(Mean(drawn), 500, 1);
  EXPECT_NEAR(Deviation(drawn), 40, 0.5);
}

TEST(LengthDistribution, LognormalHasItsMedianAndSigma) {
  const std::vector<int64_t> drawn = DrawMany("lognormal:1000,0.5");
  EXPECT_NEAR(static_cast<double>(Median(drawn)), 1000, 10);
  std::vector<int64_t> logs;
  for (const int64_t length : drawn) {
    logs.push_back(static_cast<int64_t>(std::lround(1000 * std::log(static_cast<double>(length)))));
  }
  EXPECT_NEAR(Deviation(logs), 500, 5);
}

TEST(LengthDistribution, ZipfFollowsItsPowerLaw) {
  std::map<int64_t, double> counts;
  for (const int64_t length : DrawMany("zipf:1,100")) ++counts[length];
  EXPECT_EQ(counts.begin()->first, 1);
  EXPECT_EQ(counts.rbegin()->first, 100);
  EXPECT_NEAR(counts[1] / counts[2], 2, 0.1);
  EXPECT_NEAR(counts[1] / counts[10], 10, 1);
}

TEST(LengthDistribution, AFileIsDrawnFromLineByLine) {
  const std::string path = WriteFile("7\n\n 9 \n9\n9\n");
  std::map<int64_t, int> counts;
  for (const int64_t length : DrawMany("file:" + path)) ++counts[length];
  ASSERT_EQ(counts.size(), 2U);
  EXPECT_NEAR(counts[7], 25000, 600);
  const auto lengths = LengthDistribution::Parse("file:" + path);
  EXPECT_EQ(lengths->smallest(), 7);
  EXPECT_EQ(lengths->largest(), 9);
}

TEST(LengthDistribution, StaysWithinTheBoundsOfADraw) {
  for (const int64_t drawn : DrawMany("normal:5,50", 1, 20)) {
    ASSERT_GE(drawn, 1);
    ASSERT_LE(drawn, 20);
  }
}

TEST(LengthDistribution, KnowsWhatItCanGive) {
  const auto uniform = LengthDistribution::Parse("uniform:3,4");
  EXPECT_EQ(uniform->smallest(), 3);
  EXPECT_EQ(uniform->largest(), 4);
  EXPECT_EQ(uniform->spec(), "uniform:3,4");
  EXPECT_EQ(LengthDistribution::Parse("zipf:2,9")->smallest(), 1);
  EXPECT_EQ(LengthDistribution::Parse("zipf:2,9")->largest(), 9);
  EXPECT_FALSE(LengthDistribution::Parse("normal:5,1")->largest().has_value());
  EXPECT_FALSE(LengthDistribution::Parse("lognormal:5,1")->smallest().has_value());
}

struct BadSpec {
  std::string spec;
  const char* message;
};

TEST(LengthDistribution, SaysWhatIsWrongWithASpecification) {
  const std::string words = WriteFile("5\nmany\n");
  const BadSpec bad_specs[] = {
      {"", "whole number from 0 to 16777216"},
      {"-1", "whole number from 0 to 16777216"},
      {"16777217", "whole number from 0 to 16777216"},
      {"1.5", "whole number"},
      {"uniform:5", "uniform:LOW,HIGH"},
      {"uniform:9,5", "\"5\" is not a whole number from 9 to 16777216"},
      {"pareto:1,2", "none of N, fixed:N"},
      {"normal:x,2", "\"x\" is not a number from 0"},
      {"lognormal:5,11", "\"11\" is not a number from 0 to 10"},
      {"zipf:nan,5", "\"nan\" is not a number from 0 to 10"},
      {"zipf:1,0", "whole number from 1 to 1048576"},
      {"file:/nonexistent/lengths", "/nonexistent/lengths"},
      {"file:" + words, "line 2: \"many\" is not a whole number"},
  };
  for (const BadSpec& bad : bad_specs) {
    const auto lengths = LengthDistribution::Parse(bad.spec);
    ASSERT_FALSE(lengths.ok()) << bad.spec;
    EXPECT_THAT(std::string(lengths.status().message()), HasSubstr(bad.message)) << bad.spec;
  }
  EXPECT_THAT(std::string(LengthDistribution::Parse("file:" + WriteFile("\n")).status().message()),
              HasSubstr("holds no lengths"));
}

}  // namespace
}  // namespace sluice
