#include "client/loadgen/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "client/loadgen/random_stream.h"

namespace sluice {
namespace {

// The definition that the histogram approximates.
int64_t NearestRank(std::vector<int64_t> values, double percent) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(percent / 100 * static_cast<double>(values.size()) - 1e-6);
  return values[static_cast<size_t>(std::max(rank, 1.0)) - 1];
}

TEST(LatencyHistogram, IsEmptyAtFirst) {
  const LatencyHistogram histogram;
  EXPECT_EQ(histogram.count(), 0);
  EXPECT_EQ(histogram.Percentile(50), 0);
  EXPECT_EQ(histogram.max_ns(), 0);
  EXPECT_EQ(histogram.mean_ns(), 0);
  EXPECT_TRUE(histogram.Cumulative().empty());
}

TEST(LatencyHistogram, TakesTheNearestRank) {
  LatencyHistogram histogram;
  for (int64_t ns = 1; ns <= 100; ++ns) histogram.Record(ns);
  EXPECT_EQ(histogram.Percentile(0), 1);
  EXPECT_EQ(histogram.Percentile(1), 1);
  EXPECT_EQ(histogram.Percentile(50), 50);
  EXPECT_EQ(histogram.Percentile(90), 90);
  EXPECT_EQ(histogram.Percentile(99), 99);
  EXPECT_EQ(histogram.Percentile(99.5), 100);
  EXPECT_EQ(histogram.Percentile(100), 100);
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), 50.5);
}

TEST(LatencyHistogram, IsWithinItsErrorAtEveryMagnitude) {
  RandomStream random(1, 1);
  for (const double scale : {1e2, 1e4, 1e6, 1e9, 1e13}) {
    LatencyHistogram histogram;
    std::vector<int64_t> values;
    for (int i = 0; i < 20000; ++i) {
      values.push_back(static_cast<int64_t>(scale * std::exp(2 * random.Normal())));
      histogram.Record(values.back());
    }
    for (const double percent : {1.0, 10.0, 50.0, 90.0, 99.0, 99.9}) {
      const auto exact = static_cast<double>(NearestRank(values, percent));
      EXPECT_NEAR(static_cast<double>(histogram.Percentile(percent)), exact, exact / 256 + 0.5)
          << percent << " % at " << scale;
    }
    EXPECT_EQ(histogram.Percentile(100), *std::max_element(values.begin(), values.end()));
  }
}

TEST(LatencyHistogram, TakesTheWholeRange) {
  LatencyHistogram histogram;
  histogram.Record(-5);
  histogram.Record(std::numeric_limits<int64_t>::max());
  EXPECT_EQ(histogram.Percentile(50), 0);
  EXPECT_EQ(histogram.max_ns(), std::numeric_limits<int64_t>::max());
}

TEST(LatencyHistogram, CountsWeights) {
  LatencyHistogram histogram;
  histogram.Record(10, 99);
  histogram.Record(1000, 1);
  histogram.Record(5000, 0);
  EXPECT_EQ(histogram.count(), 100);
  EXPECT_EQ(histogram.Percentile(99), 10);
  EXPECT_EQ(histogram.max_ns(), 1000);
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), 19.9);
}

TEST(LatencyHistogram, MergesIntoWhatOneWouldHaveCounted) {
  RandomStream random(2, 2);
  LatencyHistogram one;
  LatencyHistogram parts[2];
  for (int i = 0; i < 1000; ++i) {
    const int64_t ns = random.Whole(1, 1'000'000);
    one.Record(ns);
    parts[i % 2].Record(ns);
  }
  LatencyHistogram merged;
  for (const LatencyHistogram& part : parts) merged.Merge(part);
  merged.Merge(LatencyHistogram());
  EXPECT_EQ(merged.count(), one.count());
  EXPECT_EQ(merged.Cumulative(), one.Cumulative());
  EXPECT_EQ(merged.Percentile(0), one.Percentile(0));
  EXPECT_EQ(merged.max_ns(), one.max_ns());
}

TEST(LatencyHistogram, CumulatesToOne) {
  LatencyHistogram histogram;
  for (const int64_t ns : {5, 5, 90, 300}) histogram.Record(ns);
  const auto points = histogram.Cumulative();
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points[0].first, 5);
  EXPECT_DOUBLE_EQ(points[0].second, 0.5);
  EXPECT_EQ(points[2].first, 300);
  EXPECT_DOUBLE_EQ(points[2].second, 1);
}

}  // namespace
}  // namespace sluice
