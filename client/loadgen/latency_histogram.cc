#include "client/loadgen/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace sluice {
namespace {

constexpr int kSplitBits = 7;
constexpr size_t kSplit = size_t{1} << kSplitBits;

}  // namespace

// Durations below kSplit have a bucket each; those of n bits more share kSplit buckets of 2^n.
size_t LatencyHistogram::Bucket(int64_t ns) {
  const auto value = static_cast<uint64_t>(ns);
  if (value < kSplit) return value;
  const int shift = static_cast<int>(std::bit_width(value)) - 1 - kSplitBits;
  return kSplit * static_cast<size_t>(shift) + static_cast<size_t>(value >> shift);
}

int64_t LatencyHistogram::Middle(size_t bucket) const {
  if (bucket < 2 * kSplit) return static_cast<int64_t>(bucket);
  const size_t shift = bucket / kSplit - 1;
  const uint64_t lowest = static_cast<uint64_t>(bucket - shift * kSplit) << shift;
  const uint64_t middle = lowest + (uint64_t{1} << (shift - 1));
  return std::clamp(static_cast<int64_t>(middle), min_ns_, max_ns_);
}

void LatencyHistogram::Record(int64_t ns, int64_t times) {
  if (times <= 0) return;
  ns = std::max<int64_t>(ns, 0);
  const size_t bucket = Bucket(ns);
  if (bucket >= buckets_.size()) buckets_.resize(bucket + 1);
  buckets_[bucket] += times;
  min_ns_ = count_ == 0 ? ns : std::min(min_ns_, ns);
  max_ns_ = std::max(max_ns_, ns);
  count_ += times;
  sum_ns_ += static_cast<double>(ns) * static_cast<double>(times);
}

void LatencyHistogram::Merge(const LatencyHistogram& other) {
  if (other.count_ == 0) return;
  if (other.buckets_.size() > buckets_.size()) buckets_.resize(other.buckets_.size());
  for (size_t i = 0; i < other.buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  min_ns_ = count_ == 0 ? other.min_ns_ : std::min(min_ns_, other.min_ns_);
  max_ns_ = std::max(max_ns_, other.max_ns_);
  count_ += other.count_;
  sum_ns_ += other.sum_ns_;
}

double LatencyHistogram::mean_ns() const {
  return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_);
}

int64_t LatencyHistogram::Percentile(double percent) const {
  if (count_ == 0) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100.0;
  const auto rank = std::max<int64_t>(
      static_cast<int64_t>(std::ceil(share * static_cast<double>(count_) - 1e-9)), 1);
  if (rank >= count_) return max_ns_;
  if (rank == 1) return min_ns_;
  int64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= rank) return Middle(i);
  }
  return max_ns_;
}

std::vector<std::pair<int64_t, double>> LatencyHistogram::Cumulative() const {
  std::vector<std::pair<int64_t, double>> points;
  int64_t seen = 0;
  for (size_t i = 0; i < buckets_.size(); ++i) {
    if (buckets_[i] == 0) continue;
    seen += buckets_[i];
    const int64_t at = seen == count_ ? max_ns_ : Middle(i);
    points.emplace_back(at, static_cast<double>(seen) / static_cast<double>(count_));
  }
  return points;
}

}  // namespace sluice
