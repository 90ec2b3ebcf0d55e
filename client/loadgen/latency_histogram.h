// Durations, counted in buckets so narrow that percentiles are off by less than half a percent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace sluice {

// Each power of two is split into 128 buckets, so the middle of a bucket is at most 1/256 (0.4 %)
// away from what was recorded; below 128 ns, and for the least and the greatest, it is exact.
// At most 58 KB, however much is recorded. Not thread-safe.
class LatencyHistogram {
 public:
  // Less than 0 counts as 0.
  void Record(int64_t ns, int64_t times = 1);
  void Merge(const LatencyHistogram& other);

  int64_t count() const { return count_; }
  // The three are 0 if nothing was recorded.
  double mean_ns() const;
  int64_t max_ns() const { return max_ns_; }
  // Nearest rank: the least duration that at least `percent` (0 to 100) of all do not exceed.
  int64_t Percentile(double percent) const;

  // What share of all is at most so many nanoseconds: a point for each bucket that holds something.
  std::vector<std::pair<int64_t, double>> Cumulative() const;

 private:
  static size_t Bucket(int64_t ns);
  int64_t Middle(size_t bucket) const;

  std::vector<int64_t> buckets_;  // as long as the greatest needs
  int64_t count_ = 0;
  double sum_ns_ = 0;
  int64_t min_ns_ = 0;
  int64_t max_ns_ = 0;
};

}  // namespace sluice
