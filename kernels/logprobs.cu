#include "kernels/logprobs.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/ordered_key.cuh"
#include "kernels/reduce.cuh"
#include "kernels/row_cluster.cuh"
#include "kernels/weighted_floor.cuh"

namespace sluice {
namespace {

struct alignas(16) Shared {
  FloorSearch search;
  unsigned long long largest[kMaxCluster];
  unsigned long long sums[kMaxCluster];
  // Of the cluster's first block: the most likely tokens, in any order.
  unsigned long long top[kMaxTopLogprobs];
  uint32_t top_count;
};

struct Normalizer {
  float max;
  float log_sum;

  __device__ float Logprob(float logit) const { return logit - max - log_sum; }
};

// Exponentials are summed as whole numbers of 2^-40; the largest is 1.
template <bool kResident>
__device__ Normalizer Normalize(const RowPart& part, Shared& shared, const float* logits) {
  unsigned long long largest = 0;
  VisitPart<kResident>(logits, part.count, [&](float x, int32_t) {
    largest = Larger()(largest, static_cast<unsigned long long>(OrderedKey(x)));
  });
  largest = ClusterReduce(part, largest, Larger(), shared.largest);
  const float max = FromOrderedKey(static_cast<uint32_t>(largest));
  unsigned long long sum = 0;
  VisitPart<kResident>(logits, part.count,
                       [&](float x, int32_t) { sum += __float2ull_rn(expf(x - max) * 0x1p40F); });
  sum = ClusterReduce(part, sum, Plus(), shared.sums);
  return {max, logf(__ull2float_rn(sum) * 0x1p-40F)};
}

// Tells the cluster's first block which tokens are the top_n most likely: those above a floor, and
// of those at the floor the lowest.
template <bool kResident>
__device__ void GatherTop(const RowPart& part, Shared& shared, const float* logits, int32_t top_n) {
  const WeightedFloor floor = FindFloor<CountWeights>(
      part, shared.search, 0,
      [&](const auto& add) {
        VisitPart<kResident>(logits, part.count, [&](float x, int32_t) { add(OrderedKey(x)); });
      },
      [&](uint64_t) { return static_cast<uint64_t>(top_n); });
  uint32_t token_floor = 0;  // keys of tokens: the lower the larger
  if (floor.weight > floor.target) {
    const WeightedFloor tie = FindFloor<CountWeights>(
        part, shared.search, 1,
        [&](const auto& add) {
          VisitPart<kResident>(logits, part.count, [&](float x, int32_t i) {
            if (OrderedKey(x) == floor.key) add(~static_cast<uint32_t>(part.begin + i));
          });
        },
        [&](uint64_t) { return floor.target; });
    token_floor = tie.key;
  }
  VisitPart<kResident>(logits, part.count, [&](float x, int32_t i) {
    const unsigned long long candidate = CandidateKey(x, part.begin + i);
    if (candidate < (uint64_t{floor.key} << 32 | token_floor)) return;
    *InBlock(&shared.top[atomicAdd(InBlock(&shared.top_count, 0), 1U)], 0) = candidate;
  });
  SyncCluster(part.blocks);
}

// Of a warp: sorts what the cluster gathered.
__device__ void StoreTop(const LogprobsArgs& args, const RowPart& part, const Shared& shared,
                         const Normalizer& normalizer) {
  static_assert(kMaxTopLogprobs == kWarp, "a token a lane");
  const int32_t lane = threadIdx.x;
  const unsigned long long own = lane < args.top_n ? shared.top[lane] : 0;
  int32_t place = 0;  // how many are larger
  for (int other = 0; other < kWarp; ++other) {
    place += __shfl_sync(kAllLanes, own, other) > own ? 1 : 0;
  }
  if (lane >= args.top_n) return;
  const int64_t at = int64_t{part.row} * args.top_n + place;
  args.top_tokens[at] = TokenOf(own);
  args.top_logprobs[at] = normalizer.Logprob(ValueOf(own));
}

// Grid: rows, a cluster each. A row's logits are read once, and visited twice for the target and
// four times more for the most likely tokens.
template <bool kResident>
__global__ __launch_bounds__(kRowThreads, kRowBlocks) void LogprobsKernel(
    const __grid_constant__ LogprobsArgs args, const __grid_constant__ RowSplit split) {
  EnterStream();
  extern __shared__ __align__(16) unsigned char raw[];
  Shared& shared = *reinterpret_cast<Shared*>(raw);
  const RowPart part(split);
  if (threadIdx.x == 0) shared.top_count = 0;
  ArriveCluster(part.blocks);  // No block's memory is there before it has started.
  const float* const row = args.logits + int64_t{part.row} * args.vocab;
  const float* logits = row + part.begin;
  if (kResident) {
    float* const copy = reinterpret_cast<float*>(raw + sizeof(Shared));
    CopyPart(logits, part.count, copy);
    logits = copy;
    __syncthreads();
  }
  WaitCluster(part.blocks);
  const Normalizer normalizer = Normalize<kResident>(part, shared, logits);
  if (args.top_n > 0) GatherTop<kResident>(part, shared, logits, args.top_n);
  if (part.rank != 0 || threadIdx.x >= kWarp) return;
  if (threadIdx.x == 0) {
    const int32_t target = args.targets[part.row];
    args.target_logprobs[part.row] = target < 0 ? 0.0F : normalizer.Logprob(row[target]);
  }
  if (args.top_n > 0) StoreTop(args, part, shared, normalizer);
}

}  // namespace

void LogprobsCuda(const LogprobsArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.vocab > 0);
  SLUICE_CHECK(args.top_n >= 0 && args.top_n <= kMaxTopLogprobs && args.top_n <= args.vocab);
  if (args.rows == 0) return;
  static_assert(sizeof(Shared) % sizeof(float4) == 0, "the part behind it is aligned");
  const RowSplit split = SplitRows(args.rows, args.vocab, sizeof(Shared));
  const LaunchShape shape = RowLaunchShape(split, args.rows, sizeof(Shared));
  LaunchKernel(shape, stream, split.resident ? LogprobsKernel<true> : LogprobsKernel<false>, args,
               split);
}

}  // namespace sluice
