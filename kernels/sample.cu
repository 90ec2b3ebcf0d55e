// A kept set is never written down: each of top_k, min_p and top_p keeps what reaches a floor,
// found by integer sums, so that no result depends on the order in which threads come.
#include "kernels/sample.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/ordered_key.cuh"
#include "kernels/philox.h"
#include "kernels/reduce.cuh"
#include "kernels/row_cluster.cuh"
#include "kernels/token_counts.h"
#include "kernels/weighted_floor.cuh"

namespace sluice {
namespace {

constexpr float kLargest = 1e38F;         // a temperature next to nothing must not make an infinity
constexpr float kLargestGumbel = 16.64F;  // of the largest number below 1
constexpr float kGumbelSlack = 1e-4F;     // many times the error of a bound on one

struct alignas(16) Shared {
  FloorSearch search;
  SampleParams params;
  unsigned long long largest[kMaxCluster];
  unsigned long long winner[kMaxCluster];
};

// A token is kept if its z is at least z_floor, and exp(z - max) at least e_floor.
struct Floors {
  float max;
  float z_floor;
  float e_floor;

  __device__ bool Keeps(float z) const {
    return z >= z_floor && (e_floor <= 0.0F || expf(z - max) >= e_floor);
  }
};

template <bool kResident>
__device__ float TopKFloor(const RowPart& part, FloorSearch& search, const float* z,
                           int32_t top_k) {
  const WeightedFloor floor = FindFloor<CountWeights>(
      part, search, 0,
      [&](const auto& add) {
        VisitPart<kResident>(z, part.count, [&](float x, int32_t) { add(OrderedKey(x)); });
      },
      [&](uint64_t) { return static_cast<uint64_t>(top_k); });
  return FromOrderedKey(floor.key);
}

template <bool kResident>
__device__ float TopPFloor(const RowPart& part, FloorSearch& search, const float* z,
                           const Floors& floors, float top_p) {
  const WeightedFloor floor = FindFloor<MassWeights>(
      part, search, 1,
      [&](const auto& add) {
        VisitPart<kResident>(z, part.count, [&](float x, int32_t) {
          if (x < floors.z_floor) return;
          const float e = expf(x - floors.max);
          // Numbers >= 0 order as their bits do. What is below 2^-40 weighs nothing.
          if (e >= floors.e_floor && e >= 0x1p-40F) add(__float_as_uint(e));
        });
      },
      [&](uint64_t total) {
        const double mass = ceil(static_cast<double>(top_p) * static_cast<double>(total));
        return max(uint64_t{1}, min(static_cast<uint64_t>(mass), total));
      });
  return __uint_as_float(floor.key);
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

__device__ void AddBias(const SampleArgs& args, const SampleParams& params, const RowPart& part,
                        float* z) {
  for (int32_t i = threadIdx.x; i < params.bias_count; i += kRowThreads) {
    const TokenBias entry = args.bias[params.bias_begin + i];
    const int32_t at = entry.token - part.begin;
    if (at >= 0 && at < part.count) z[at] += entry.bias;
  }
}

// The larger number and the lower token of a tie. What is no number is never the largest.
struct Best {
  float value;
  int32_t token;

  __device__ void Offer(float candidate, int32_t of_token) {  // in the tokens' order
    if (!(candidate > value)) return;
    value = candidate;
    token = of_token;
  }
};

// Turns the part's logits into what is drawn from: applies penalties, and temperature unless the
// row is greedy. The thread's largest number and its token, as one key; 0 if it has none.
template <bool kResident>
__device__ unsigned long long Adjust(const SampleArgs& args, const SampleParams& params,
                                     const RowPart& part, float* z) {
  const uint32_t* const counts =
      ReadsCounts(params) ? args.counts + int64_t{params.slot} * args.vocab + part.begin : nullptr;
  const float temperature = params.temperature;
  const bool changes = counts != nullptr || temperature != 0.0F;
  const int32_t first = 4 * static_cast<int32_t>(threadIdx.x);
  Best best = {__int_as_float(0xFF800000), part.begin + first};
  for (int32_t quad = threadIdx.x; 4 * quad < part.count; quad += kRowThreads) {
    const float4 four = LoadPartQuad<kResident>(z, quad, part.count);
    float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int32_t v = 4 * quad + i;
      if (v >= part.count) break;
      if (counts != nullptr) x[i] = Penalized(x[i], counts[v], params);
      if (temperature != 0.0F) {
        if (temperature != 1.0F) x[i] /= temperature;
        x[i] = fminf(fmaxf(x[i], -kLargest), kLargest);
      }
      best.Offer(x[i], part.begin + v);
    }
    if (changes) {
      StorePartQuad<kResident>(z, quad, part.count, make_float4(x[0], x[1], x[2], x[3]));
    }
  }
  return first < part.count ? CandidateKey(best.value, best.token) : 0;
}

// -log(-log(u)).
__device__ float Gumbel(uint32_t bits) { return -logf(-logf(UniformOpen(bits))); }

// Bounds on it that cost little: -log(1 - w) lies between w and w / (1 - w).
struct GumbelBounds {
  float upper;
  float spread;  // upper - lower

  __device__ explicit GumbelBounds(uint32_t bits) {
    const float w = UniformOpen(~bits);  // 1 - u, exactly
    upper = kGumbelSlack - __logf(w);
    spread = 2 * kGumbelSlack - __logf(UniformOpen(bits));
  }
};

// The thread's kept token of the largest z + gumbel, as a key; 0 if it keeps none. A thread owns
// the four tokens of one random block. Most are out by a bound: `reach` is what a token of the warp
// is known to have.
template <bool kResident>
__device__ unsigned long long Draw(const RowPart& part, const float* z, const Floors& floors,
                                   const SampleParams& params) {
  const float none = __int_as_float(0xFF800000);  // minus infinity
  unsigned long long best = 0;
  float reach = none;
  for (int32_t first = 0; 4 * first < part.count; first += kRowThreads) {
    const int32_t quad = first + static_cast<int32_t>(threadIdx.x);
    float x[4] = {none, none, none, none};
    bool any = false;
    if (4 * quad < part.count) {
      const float4 four = LoadPartQuad<kResident>(z, quad, part.count);
      const float own[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const bool in_reach = 4 * quad + i < part.count && own[i] + kLargestGumbel >= reach;
        if (in_reach && floors.Keeps(own[i])) x[i] = own[i];
        any = any || x[i] > none;
      }
    }
    if (!__any_sync(kAllLanes, any)) continue;
    const PhiloxWords words = Philox::OfTokens(params.seed, params.position, part.begin / 4 + quad);
    float upper[4];
    float lower = none;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const GumbelBounds bounds(words.word[i]);
      upper[i] = x[i] + bounds.upper;
      lower = fmaxf(lower, x[i] + (bounds.upper - bounds.spread));
    }
    reach = fmaxf(reach, FromOrderedKey(__reduce_max_sync(kAllLanes, OrderedKey(lower))));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!(x[i] > none && upper[i] >= reach)) continue;
      const int32_t token = part.begin + 4 * quad + i;
      best = Larger()(best, CandidateKey(x[i] + Gumbel(words.word[i]), token));
    }
  }
  return best;
}

// The cluster's row's next token.
template <bool kResident>
__device__ int32_t SampleRow(const SampleArgs& args, const RowPart& part, Shared& shared,
                             float* z) {
  const SampleParams& params = shared.params;
  const unsigned long long largest =
      ClusterReduce(part, Adjust<kResident>(args, params, part, z), Larger(), shared.largest);
  if (params.temperature == 0.0F) return TokenOf(largest);
  Floors floors = {ValueOf(largest), -2 * kLargest, params.min_p};
  if (params.top_k > 0 && params.top_k < args.vocab) {
    floors.z_floor = TopKFloor<kResident>(part, shared.search, z, params.top_k);
  }
  if (params.top_p < 1.0F) {
    floors.e_floor = TopPFloor<kResident>(part, shared.search, z, floors, params.top_p);
  }
  const unsigned long long drawn = Draw<kResident>(part, z, floors, params);
  return TokenOf(ClusterReduce(part, drawn, Larger(), shared.winner));
}

// Grid: rows, a cluster each. Without truncation a row's logits are read once and its numbers
// visited twice; top_k and top_p visit them three times more each.
template <bool kResident>
__global__ __launch_bounds__(kRowThreads,
                             kRowBlocks) void SampleKernel(const __grid_constant__ SampleArgs args,
                                                           const __grid_constant__ RowSplit split) {
  EnterStream();
  extern __shared__ __align__(16) unsigned char raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  const RowPart part(split);
  ArriveCluster(part.blocks);  // No block's memory is there before it has started.
  const int64_t at = int64_t{part.row} * args.vocab + part.begin;
  float* const z = kResident ? reinterpret_cast<float*>(raw + sizeof(Shared)) : args.scratch + at;
  if (threadIdx.x == 0) shared.params = args.params[part.row];
  CopyPart(args.logits + at, part.count, z);
  __syncthreads();
  if (shared.params.bias_count > 0) {
    AddBias(args, shared.params, part, z);
    __syncthreads();
  }
  WaitCluster(part.blocks);
  const int32_t token = SampleRow<kResident>(args, part, shared, z);
  if (part.rank != 0 || threadIdx.x != 0) return;
  const int32_t slot = shared.params.slot;
  args.tokens[part.row] = token;
  if (slot >= 0) atomicAdd(args.counts + int64_t{slot} * args.vocab + token, 1U);
}

}  // namespace

void SampleCuda(const SampleArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.vocab >= 8);
  if (args.rows == 0) return;
  static_assert(sizeof(Shared) % sizeof(float4) == 0, "the part behind it is aligned");
  const RowSplit split = SplitRows(args.rows, args.vocab, sizeof(Shared));
  const LaunchShape shape = RowLaunchShape(split, args.rows, sizeof(Shared));
  LaunchKernel(shape, stream, split.resident ? SampleKernel<true> : SampleKernel<false>, args,
               split);
}

}  // namespace sluice
