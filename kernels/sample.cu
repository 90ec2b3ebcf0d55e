// A kept set is never written down: each of top_k, min_p and top_p keeps what reaches a floor. The
// floors are found digit by digit over keys that order as the numbers do, with integer sums, so
// that no result depends on the order in which threads come.
#include "kernels/sample.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/ordered_key.cuh"
#include "kernels/philox.h"
#include "kernels/reduce.cuh"
#include "kernels/token_counts.h"

namespace sluice {
namespace {

constexpr int kThreads = 1024;
constexpr int kDigitBits = 11;          // of a key: 11, 11 and the last 10
constexpr int kBins = 1 << kDigitBits;  // two a thread
constexpr float kLargest = 1e38F;       // a temperature next to nothing must not make an infinity

// 64-bit sums in halves: shared memory adds 32 bits at once.
struct Histogram {
  uint32_t low[kBins];
  uint32_t high[kBins];
};

struct Shared {
  Histogram histogram;
  uint32_t digit;
  uint64_t target;
};

// Token v is kept if the key of z[v] is at least z_floor, and exp(z[v] - max) at least e_floor.
struct Floors {
  float max;
  uint32_t z_floor;
  float e_floor;

  __device__ bool Keeps(float z, float e) const { return OrderedKey(z) >= z_floor && e >= e_floor; }
};

__device__ void Add(Histogram& histogram, uint32_t bin, uint64_t weight) {
  const auto low = static_cast<uint32_t>(weight);
  auto high = static_cast<uint32_t>(weight >> 32);
  const uint32_t before = atomicAdd(&histogram.low[bin], low);
  if (before + low < before) ++high;  // carried
  if (high != 0) atomicAdd(&histogram.high[bin], high);
}

__device__ uint64_t WeightOf(const Histogram& histogram, uint32_t bin) {
  return uint64_t{histogram.high[bin]} << 32 | histogram.low[bin];
}

// Finds the largest bin whose own weight and that of all larger bins reach the target, and lowers
// the target by that of the larger ones.
__device__ void FindDigit(Shared& shared, uint64_t target) {
  const uint32_t bin = kBins - 1 - 2 * threadIdx.x;  // and the one below it
  const uint64_t first = WeightOf(shared.histogram, bin);
  const uint64_t both = first + WeightOf(shared.histogram, bin - 1);
  uint64_t total;
  const uint64_t above = BlockRunningSum<kThreads>(both, &total) - both;
  if (above < target && target <= above + both) {  // of one thread
    const bool is_first = target <= above + first;
    shared.digit = is_first ? bin : bin - 1;
    shared.target = target - above - (is_first ? 0 : first);
  }
  __syncthreads();
}

// The largest key whose own weight and that of all larger keys reach `target`, which is at least 1
// and at most the weight of all. `visit(v, add)` calls add(key, weight) if token v counts.
template <typename Visit>
__device__ uint32_t WeightedFloor(Shared& shared, int32_t vocab, uint64_t target,
                                  const Visit& visit) {
  uint32_t found = 0;
  uint32_t found_mask = 0;
  for (int shift = 32 - kDigitBits; shift >= 0; shift -= shift > 10 ? kDigitBits : 10) {
    const uint32_t digit_mask = shift == 0 ? 0x3FF : 0x7FF;
    __syncthreads();
    for (int bin = threadIdx.x; bin < kBins; bin += kThreads) {
      shared.histogram.low[bin] = 0;
      shared.histogram.high[bin] = 0;
    }
    __syncthreads();
    for (int32_t v = threadIdx.x; v < vocab; v += kThreads) {
      visit(v, [&](uint32_t key, uint64_t weight) {
        if ((key & found_mask) != found) return;
        Add(shared.histogram, (key >> shift) & digit_mask, weight);
      });
    }
    __syncthreads();
    FindDigit(shared, target);
    found |= shared.digit << shift;
    found_mask |= digit_mask << shift;
    target = shared.target;
  }
  return found;
}

// Relative to the largest probability, in units of 2^-40.
__device__ uint64_t FixedPoint(float e) { return static_cast<uint64_t>(e * 0x1p40F); }

__device__ uint32_t TopKFloor(Shared& shared, const float* z, int32_t vocab, int32_t top_k) {
  return WeightedFloor(shared, vocab, top_k,
                       [&](int32_t v, const auto& add) { add(OrderedKey(z[v]), 1); });
}

__device__ float TopPFloor(Shared& shared, const float* z, int32_t vocab, const Floors& floors,
                           float top_p) {
  uint64_t own = 0;
  for (int32_t v = threadIdx.x; v < vocab; v += kThreads) {
    const float e = expf(z[v] - floors.max);
    if (floors.Keeps(z[v], e)) own += FixedPoint(e);
  }
  const uint64_t total = BlockReduce<kThreads>(static_cast<unsigned long long>(own), Plus());
  const auto mass =
      static_cast<uint64_t>(ceil(static_cast<double>(top_p) * static_cast<double>(total)));
  const uint64_t target = max(uint64_t{1}, min(mass, total));
  return __uint_as_float(WeightedFloor(shared, vocab, target, [&](int32_t v, const auto& add) {
    const float e = expf(z[v] - floors.max);
    // Numbers >= 0 order as their bits do. No weight, no matter.
    if (floors.Keeps(z[v], e) && FixedPoint(e) > 0) add(__float_as_uint(e), FixedPoint(e));
  }));
}

__device__ bool ReadsCounts(const SampleParams& params) {
  return params.slot >= 0 && (params.repetition_penalty != 1.0F ||
                              params.presence_penalty != 0.0F || params.frequency_penalty != 0.0F);
}

__device__ float Penalized(float logit, uint32_t count, const SampleParams& params) {
  if (count == 0) return logit;
  const uint32_t generated = count & ~kInPrompt;
  logit = logit > 0.0F ? logit / params.repetition_penalty : logit * params.repetition_penalty;
  logit -= params.frequency_penalty * static_cast<float>(generated);
  return generated > 0 ? logit - params.presence_penalty : logit;
}

// The row's logits with its bias: the given ones, or a changed copy in scratch.
__device__ const float* AddBias(const SampleArgs& args, const SampleParams& params,
                                const float* logits, float* scratch) {
  if (params.bias_count == 0) return logits;
  for (int32_t v = threadIdx.x; v < args.vocab; v += kThreads) scratch[v] = logits[v];
  __syncthreads();
  for (int32_t i = threadIdx.x; i < params.bias_count; i += kThreads) {
    const TokenBias entry = args.bias[params.bias_begin + i];
    scratch[entry.token] += entry.bias;
  }
  __syncthreads();
  return scratch;
}

// Applies penalties and temperature; writes what is drawn from to scratch unless the row is greedy.
// The largest number and its token, as one key.
__device__ uint64_t Adjust(const SampleArgs& args, const SampleParams& params, const float* logits,
                           float* scratch) {
  const uint32_t* const counts =
      ReadsCounts(params) ? args.counts + int64_t{params.slot} * args.vocab : nullptr;
  unsigned long long best = 0;
  for (int32_t v = threadIdx.x; v < args.vocab; v += kThreads) {
    float z = logits[v];
    if (counts != nullptr) z = Penalized(z, counts[v], params);
    if (params.temperature != 0.0F) {
      z = fminf(fmaxf(z / params.temperature, -kLargest), kLargest);
      scratch[v] = z;
    }
    best = Larger()(best, CandidateKey(z, v));
  }
  return BlockReduce<kThreads>(best, Larger());
}

// -log(-log(u)).
__device__ float Gumbel(uint32_t bits) { return -logf(-logf(UniformOpen(bits))); }

// The kept token of the largest z + gumbel. A thread owns the four tokens of one random block.
__device__ int32_t Draw(const float* z, int32_t vocab, const Floors& floors,
                        const SampleParams& params) {
  unsigned long long best = 0;
  for (int32_t quad = threadIdx.x; quad < (vocab + 3) / 4; quad += kThreads) {
    bool kept[4];
    bool any = false;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t v = 4 * quad + i;
      kept[i] = v < vocab && floors.Keeps(z[v], floors.e_floor > 0 ? expf(z[v] - floors.max) : 0);
      any = any || kept[i];
    }
    if (!any) continue;
    const PhiloxWords words = Philox::OfTokens(params.seed, params.position, quad);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t v = 4 * quad + i;
      if (kept[i]) best = Larger()(best, CandidateKey(z[v] + Gumbel(words.word[i]), v));
    }
  }
  return TokenOf(BlockReduce<kThreads>(best, Larger()));
}

// Grid: rows. A block owns one row, a thread every 1024th token. A greedy row is read once; the
// others are written to scratch and read from there: three times for top_k, four for top_p, once
// for the draw.
__global__ __launch_bounds__(kThreads) void SampleKernel(const __grid_constant__ SampleArgs args) {
  EnterStream();
  __shared__ Shared shared;
  const int32_t row = blockIdx.x;
  const SampleParams params = args.params[row];
  float* const z = args.scratch + int64_t{row} * args.vocab;
  const float* const logits = AddBias(args, params, args.logits + int64_t{row} * args.vocab, z);
  const uint64_t best = Adjust(args, params, logits, z);
  int32_t token = TokenOf(best);
  if (params.temperature != 0.0F) {
    Floors floors = {ValueOf(best), 0, params.min_p};
    if (params.top_k > 0 && params.top_k < args.vocab) {
      floors.z_floor = TopKFloor(shared, z, args.vocab, params.top_k);
    }
    if (params.top_p < 1.0F)
      floors.e_floor = TopPFloor(shared, z, args.vocab, floors, params.top_p);
    token = Draw(z, args.vocab, floors, params);
  }
  if (threadIdx.x != 0) return;
  args.tokens[row] = token;
  if (params.slot >= 0) atomicAdd(args.counts + int64_t{params.slot} * args.vocab + token, 1U);
}

}  // namespace

void SampleCuda(const SampleArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.vocab >= 8);
  if (args.rows == 0) return;
  LaunchKernel({args.rows, kThreads}, stream, SampleKernel, args);
}

}  // namespace sluice
