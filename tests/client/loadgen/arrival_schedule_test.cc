#include "client/loadgen/arrival_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ArrivalOptions Poisson(double rate, int64_t seconds) {
  ArrivalOptions options;
  options.rate = rate;
  options.end_ns = seconds * kNsPerSecond;
  return options;
}

std::vector<int64_t> DrawArrivals(const ArrivalOptions& options) {
  ArrivalSchedule schedule(options);
  std::vector<int64_t> arrivals;
  while (const std::optional<int64_t> next = schedule.Next()) arrivals.push_back(*next);
  return arrivals;
}

TEST(ArrivalSchedule, PoissonGapsAreExponential) {
  const std::vector<int64_t> arrivals = DrawArrivals(Poisson(1000, 100));
  const auto count = static_cast<double>(arrivals.size());
  EXPECT_NEAR(count, 100000, 4 * std::sqrt(100000));
  EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
  // A gap is longer than x with probability exp(-rate * x).
  double long_gaps = 0;
  for (size_t i = 1; i < arrivals.size(); ++i) {
    if (arrivals[i] - arrivals[i - 1] > 2'000'000) ++long_gaps;
  }
  EXPECT_NEAR(long_gaps / count, std::exp(-2), 0.005);
}

TEST(ArrivalSchedule, PoissonCountsVaryAsMuchAsTheirMean) {
  const std::vector<int64_t> arrivals = DrawArrivals(Poisson(20, 2000));
  std::vector<double> counts(2000);
  for (const int64_t ns : arrivals) ++counts[static_cast<size_t>(ns / kNsPerSecond)];
  double squares = 0;
  for (const double count : counts) squares += (count - 20) * (count - 20);
  EXPECT_NEAR(squares / 2000, 20, 2.5);
}

TEST(ArrivalSchedule, ConstantGapsAreEqual) {
  ArrivalOptions options = Poisson(4, 1);
  options.process = ArrivalProcess::kConstant;
  EXPECT_THAT(DrawArrivals(options), ElementsAre(250'000'000, 500'000'000, 750'000'000));
}

TEST(ArrivalSchedule, DependsOnTheSeedAlone) {
  ArrivalOptions options = Poisson(100, 1);
  const std::vector<int64_t> first = DrawArrivals(options);
  EXPECT_EQ(DrawArrivals(options), first);
  options.seed = 1;
  EXPECT_NE(DrawArrivals(options), first);
  // A longer run begins like a shorter one.
  options.end_ns *= 2;
  const std::vector<int64_t> longer = DrawArrivals(options);
  options.end_ns /= 2;
  const std::vector<int64_t> shorter = DrawArrivals(options);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
}

TEST(ArrivalSchedule, CountsFromTheMeasuredPhaseOn) {
  ArrivalOptions options = Poisson(100, 0);
  options.process = ArrivalProcess::kConstant;
  options.end_ns = std::numeric_limits<int64_t>::max();
  options.count = 5;
  options.from_ns = kNsPerSecond / 10;  // before the tenth
  EXPECT_THAT(DrawArrivals(options), SizeIs(9 + 5));
}

TEST(ArrivalSchedule, MayBeEmpty) { EXPECT_THAT(DrawArrivals(Poisson(1, 0)), IsEmpty()); }

}  // namespace
}  // namespace sluice
