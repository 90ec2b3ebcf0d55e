// Where to cut the largest of a row's numbers so that their weights reach a target, without
// sorting: the key is found digit by digit, 11, 11 and the last 10 bits, from histograms of the
// weights. Sums are integers, so that no result depends on the order in which threads come, nor on
// how many blocks share the row.
#pragma once

#include <cstdint>

#include "kernels/reduce.cuh"
#include "kernels/row_cluster.cuh"

namespace sluice {

constexpr int kFloorBins = 2048;
constexpr int kFloorGroups = kWarp;  // of bins, summed by the blocks before they tell each other
constexpr int kGroupBins = kFloorBins / kFloorGroups;

// 64-bit sums in halves: shared memory adds 32 bits at once.
struct WeightHistogram {
  uint32_t low[kFloorBins];
  uint32_t high[kFloorBins];
  unsigned long long groups[kFloorGroups];
};

// Shared memory of a block. Searches of a kernel start with histogram 0 and 1 in turn.
struct FloorSearch {
  WeightHistogram histograms[2];
  uint32_t digit;
  unsigned long long weight;  // of the digit
  unsigned long long target;  // left for the digit
};

struct WeightedFloor {
  uint32_t key;
  uint64_t weight;  // of the key
  uint64_t target;  // what the larger keys leave
};

// Weights of one each.
struct CountWeights {
  static constexpr bool kCarries = false;
  __device__ static uint32_t Mantissa(uint32_t) { return 1; }
  __device__ static uint64_t Weight(uint64_t sum, uint32_t) { return sum; }
};

// A number e in [0, 1], its bits the key, weighs floor(e * 2^40). Histograms add up its mantissa,
// cut off at 2^-40: 24 bits, so that 32 rarely overflow. Numbers of one bin have one exponent.
struct MassWeights {
  static constexpr bool kCarries = true;
  static constexpr uint32_t kUncut = 127 + 23 - 40;  // the least biased exponent of whole mantissas
  __device__ static uint32_t Mantissa(uint32_t key) {
    const uint32_t exponent = key >> 23;
    const uint32_t mantissa = (key & 0x7FFFFFU) | 0x800000U;
    return exponent >= kUncut ? mantissa : mantissa >> min(kUncut - exponent, 31U);
  }
  __device__ static uint64_t Weight(uint64_t sum, uint32_t key) {
    const uint32_t exponent = key >> 23;
    return exponent > kUncut ? sum << (exponent - kUncut) : sum;
  }
};

// One digit of the search, in a block.
struct DigitSearch {
  int shift;
  uint32_t mask;    // of the digit, shifted down
  uint32_t prefix;  // the digits found before

  __device__ uint32_t Key(uint32_t bin) const { return prefix | (bin & mask) << shift; }
};

template <typename Weights>
__device__ inline unsigned long long BinWeight(const WeightHistogram& histogram,
                                               const DigitSearch& digit, uint32_t bin) {
  const uint64_t sum = uint64_t{histogram.high[bin]} << 32 | histogram.low[bin];
  return Weights::Weight(sum, digit.Key(bin));
}

template <typename Weights>
__device__ inline void SumGroups(WeightHistogram& histogram, const DigitSearch& digit) {
  const uint32_t lane = threadIdx.x % kWarp;
  for (uint32_t group = threadIdx.x / kWarp; group < kFloorGroups; group += kRowThreads / kWarp) {
    const uint32_t bin = group * kGroupBins + lane;
    const unsigned long long both = BinWeight<Weights>(histogram, digit, bin) +
                                    BinWeight<Weights>(histogram, digit, bin + kWarp);
    const unsigned long long sum = WarpReduce(both, Plus());
    if (lane == 0) histogram.groups[group] = sum;
  }
}

// Of a warp: the weights of all blocks' group or bin. Every lane's loads come before their sum.
template <typename WeightIn>
__device__ inline unsigned long long ClusterWeight(const RowPart& part, const WeightIn& weight_in) {
  unsigned long long weights[kMaxCluster];
#pragma unroll
  for (int32_t block = 0; block < kMaxCluster; ++block) {
    weights[block] = block < part.blocks ? weight_in(block) : 0;
  }
  unsigned long long sum = 0;
#pragma unroll
  for (int32_t block = 0; block < kMaxCluster; ++block) sum += weights[block];
  return sum;
}

// Of one warp, after all blocks of the cluster have summed their groups: the largest digit whose
// weight and that of all larger ones reach the target. Lanes go from large to small.
template <typename Weights, typename TargetOf>
__device__ inline void FindDigit(const RowPart& part, FloorSearch& search,
                                 WeightHistogram& histogram, const DigitSearch& digit,
                                 const TargetOf& target_of) {
  const uint32_t lane = threadIdx.x % kWarp;
  const uint32_t group_of_lane = kFloorGroups - 1 - lane;
  const unsigned long long own = ClusterWeight(
      part, [&](int32_t block) { return *InBlock(&histogram.groups[group_of_lane], block); });
  const unsigned long long reached = WarpRunningSum(own);
  uint64_t target = target_of(__shfl_sync(kAllLanes, reached, kWarp - 1));
  const int from = __ffs(__ballot_sync(kAllLanes, reached >= target)) - 1;
  target -= __shfl_sync(kAllLanes, reached - own, from);

  const uint32_t bin = (kFloorGroups - from) * kGroupBins - 1 - 2 * lane;  // and the one below it
  const auto weight_of = [&](uint32_t of_bin) {
    return ClusterWeight(part, [&](int32_t block) {
      return BinWeight<Weights>(*InBlock(&histogram, block), digit, of_bin);
    });
  };
  const unsigned long long upper = weight_of(bin);
  const unsigned long long lower = weight_of(bin - 1);
  const unsigned long long above = WarpRunningSum(upper + lower) - upper - lower;
  if (above < target && target <= above + upper + lower) {  // of one lane
    const bool is_upper = target <= above + upper;
    search.digit = is_upper ? bin : bin - 1;
    search.weight = is_upper ? upper : lower;
    search.target = target - above - (is_upper ? 0 : upper);
  }
}

// The largest key whose own weight and that of all larger keys reach the target, which is at least
// 1 and at most the weight of all: target_of(that weight). `visit(add)` calls add(key) for what
// counts in the block's part. `first` is the histogram to start with.
template <typename Weights, typename Visit, typename TargetOf>
__device__ inline WeightedFloor FindFloor(const RowPart& part, FloorSearch& search, int first,
                                          const Visit& visit, const TargetOf& target_of) {
  WeightedFloor found = {};
  uint32_t found_mask = 0;
  int at = first;
  for (int shift = 21; shift >= 0; shift -= shift > 10 ? 11 : 10) {
    const DigitSearch digit = {shift, shift == 0 ? 0x3FFU : 0x7FFU, found.key};
    // What others read of it they read before the search of the histogram that came in between.
    WeightHistogram& histogram = search.histograms[at];
    for (int bin = threadIdx.x; bin < kFloorBins; bin += kRowThreads) {
      histogram.low[bin] = 0;
      histogram.high[bin] = 0;
    }
    __syncthreads();
    visit([&](uint32_t key) {
      if ((key & found_mask) != found.key) return;
      const uint32_t bin = (key >> shift) & digit.mask;
      const uint32_t mantissa = Weights::Mantissa(key);
      const uint32_t before = atomicAdd(&histogram.low[bin], mantissa);
      if (Weights::kCarries && before + mantissa < before) atomicAdd(&histogram.high[bin], 1U);
    });
    __syncthreads();
    SumGroups<Weights>(histogram, digit);
    SyncCluster(part.blocks);
    if (threadIdx.x < kWarp) {
      FindDigit<Weights>(part, search, histogram, digit, [&](uint64_t total) {
        return shift == 21 ? target_of(total) : found.target;
      });
    }
    __syncthreads();
    found.key = digit.Key(search.digit);
    found.weight = search.weight;
    found.target = search.target;
    found_mask |= digit.mask << shift;
    at = 1 - at;
  }
  return found;
}

}  // namespace sluice
