#include "client/loadgen/rate_sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

SweepPoint Point(double rate, bool sustained) {
  SweepPoint point;
  point.rate = rate;
  point.problem = sustained ? "" : "too much";
  return point;
}

// The rates that are tried on a server that bears `capacity`.
std::vector<SweepPoint> Sweep(const SweepOptions& options, double capacity) {
  std::vector<SweepPoint> points;
  for (;;) {
    const std::optional<double> rate = NextRate(points, options);
    if (!rate.has_value()) return points;
    points.push_back(Point(*rate, *rate <= capacity));
  }
}

std::vector<double> Rates(const std::vector<SweepPoint>& points) {
  std::vector<double> rates;
  for (const SweepPoint& point : points) rates.push_back(point.rate);
  return rates;
}

TEST(RateSweep, ReadsRatesInAnyOrder) {
  EXPECT_THAT(*ParseRates("4,1,2.5"), ElementsAre(1, 2.5, 4));
  for (const char* bad : {"", "1,", "0", "-1", "x", "1e7", "nan"}) {
    EXPECT_FALSE(ParseRates(bad).ok()) << bad;
  }
}

TEST(RateSweep, TriesTheGivenRates) {
  SweepOptions options;
  options.rates = {1, 2, 8};
  EXPECT_THAT(Rates(Sweep(options, 1.5)), ElementsAre(1, 2, 8));
}

TEST(RateSweep, DoublesThenHalvesTheInterval) {
  SweepOptions options;
  options.start = 10;
  options.precision = 0.1;
  const std::vector<SweepPoint> points = Sweep(options, 57);
  EXPECT_THAT(Rates(points), ElementsAre(10, 20, 40, 80, 60, 50, 55));
  ASSERT_NE(FindKnee(points), nullptr);
  EXPECT_EQ(FindKnee(points)->rate, 55);
}

TEST(RateSweep, GoesDownFromARateThatIsTooHigh) {
  SweepOptions options;
  options.start = 64;
  options.precision = 0.3;
  EXPECT_THAT(Rates(Sweep(options, 10)), ElementsAre(64, 32, 16, 8, 12, 10));
}

TEST(RateSweep, EndsAfterItsPointsAndAtTheBoundsOfRates) {
  SweepOptions options;
  options.max_points = 3;
  EXPECT_THAT(Rates(Sweep(options, 1e9)), ElementsAre(1, 2, 4));
  options.max_points = 100;
  EXPECT_LE(Sweep(options, 1e9).back().rate, 1e6);
  EXPECT_GE(Sweep(options, 0).back().rate, 0.001);
}

TEST(RateSweep, TheKneeHasNothingUnsustainedBelowIt) {
  const std::vector<SweepPoint> points = {Point(8, true), Point(4, false), Point(2, true)};
  ASSERT_NE(FindKnee(points), nullptr);
  EXPECT_EQ(FindKnee(points)->rate, 2);
  EXPECT_EQ(FindKnee({Point(1, false), Point(2, true)}), nullptr);
}

LoadTotals Totals(int64_t due, int64_t served, int64_t good) {
  LoadTotals totals;
  totals.window_due = due;
  totals.window_served = served;
  totals.plain = due;
  totals.good = good;
  return totals;
}

TEST(RateSweep, SaysWhyARateIsNotSustained) {
  const SweepOptions options;
  EXPECT_EQ(FindProblem(Totals(100, 95, 99), options), "");
  EXPECT_EQ(FindProblem(Totals(100, 94, 100), options), "94.0 % served in time");
  EXPECT_EQ(FindProblem(Totals(100, 100, 98), options), "98.0 % met the objective");
  LoadTotals not_sent = Totals(100, 100, 100);
  not_sent.errors_by_name["NOT_SENT"].count = 2;
  EXPECT_EQ(FindProblem(not_sent, options), "2 not sent");
  EXPECT_EQ(FindProblem(Totals(0, 0, 0), options), "");
}

TEST(RateSweep, ReportsAscendingRatesAndTheKnee) {
  LoadSetting setting;
  setting.load.objective = *ParseObjective("ttft=100ms");
  SweepPoint high = Point(8, false);
  SweepPoint low = Point(4, true);
  low.result.window = {0, 0, 2 * kNsPerSecond};
  low.result.totals = Totals(8, 6, 8);
  low.result.totals.first_token.Record(20'000'000);
  std::ostringstream table;
  PrintSweep(setting, {}, {high, low}, table);
  EXPECT_THAT(table.str(), HasSubstr("        4        3.0        4.0"));
  EXPECT_THAT(table.str(), HasSubstr("20.0 ms"));
  EXPECT_THAT(table.str(), HasSubstr("too much"));
  EXPECT_THAT(table.str(), HasSubstr("knee: 4 requests/s (>= 95 % served in time, >= 99 % within "
                                     "ttft=100ms)"));
  const nlohmann::ordered_json json = SweepJson(setting, {}, {high, low});
  EXPECT_EQ(json["schema"], "sluice-loadgen-sweep/1");
  EXPECT_EQ(json["knee"], 4);
  EXPECT_EQ(json["points"][0]["rate"], 4);
  EXPECT_EQ(json["points"][0]["sustained"], true);
  EXPECT_EQ(json["points"][0]["report"]["load"]["rate"], 4);
  EXPECT_EQ(json["points"][1]["problem"], "too much");
  EXPECT_TRUE(SweepJson(setting, {}, {high})["knee"].is_null());
}

}  // namespace
}  // namespace sluice
