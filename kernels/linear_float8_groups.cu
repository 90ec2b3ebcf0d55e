#include <algorithm>
#include <cstdint>

#include "kernels/bulk_copy.cuh"
#include "kernels/check.h"
#include "kernels/cluster.cuh"
#include "kernels/float8.cuh"
#include "kernels/launch.cuh"
#include "kernels/linear_cuda.h"
#include "kernels/linear_float8_results.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"
#include "kernels/ring.cuh"
#include "kernels/wgmma.cuh"

namespace sluice {
namespace {

constexpr int kGroupTile = 64;               // outputs of a warpgroup
constexpr int kChunk = 2 * kImageColumns;    // of K: a stage
constexpr int kCopied = 16;                  // bytes of a copy
constexpr int kPitch = kChunk + kCopied;     // rows that a warp reads at once lie in other banks
constexpr int kFetchingThreads = 2 * kWarp;  // a warp weights, a warp rows of x
constexpr int kMostStages = 8;               // of weights
constexpr int64_t kClusterCost = 24 << 10;   // of meeting, an estimate in bytes of weights

// By the rows of x of a block. Of up to 64 two blocks share a multiprocessor, mostly of products
// queued one after the other, so that the later one has weights on their way while the earlier one
// ends. Of 128 the products take longer than the weights, and a block has enough outputs that x is
// not fetched more often than they.
template <int kRows>
struct Form {
  static constexpr int kGroups = kRows == 128 ? 3 : 2;
  static constexpr int kTile = kGroups * kGroupTile;  // outputs, at most
  static constexpr int kThreads = kGroups * kWarpgroup + kFetchingThreads;
  static constexpr int kBlocksAtOnce = kRows == 128 ? 1 : 2;  // of a multiprocessor
  static constexpr int kInputStages = kRows < 64 ? 4 : 3;
  static constexpr int kSumPitch = kTile + 4;  // neighbouring rows lie in other banks
  static constexpr int kBytes = kRows == 128 ? 224 << 10 : 112 << 10;  // of shared memory
};

struct NoStage {};

// Sums take the place of all that was fetched.
template <int kRows>
struct alignas(1024) Fetched {
  unsigned char x[Form<kRows>::kInputStages][kChunk / kImageColumns][kRows * 128];  // images
  // [Division::stages][Division::outputs][kPitch]
  unsigned char
      weights[Form<kRows>::kBytes - 1024 - Form<kRows>::kInputStages * kChunk * kRows * 2];
};
template <int kRows>
struct Shared {
  union {
    Fetched<kRows> fetched;
    float sums[1][kRows][Form<kRows>::kSumPitch];
  };
  StageRing<NoStage, Form<kRows>::kInputStages> inputs;
  StageRing<NoStage, kMostStages> weights;
};

// How a product is shared out: clusters divide the outputs, their blocks K.
struct Division {
  int32_t clusters;
  int32_t blocks;   // of a cluster
  int32_t packs;    // of eight outputs of a cluster
  int32_t more;     // clusters, the first ones, that have one more
  int32_t outputs;  // of a cluster, at most
  int32_t stages;   // of weights
};

// What a block multiplies: some rows of x, the cluster's outputs, its share of the chunks of K.
struct Work {
  Results results;
  const __nv_bfloat16* x;
  const Float8* weight;
  int32_t begin;  // of the chunks
  int32_t end;

  __device__ Work(const LinearArgs& args, const Division& division, int rows_of_block) {
    const int32_t cluster = static_cast<int32_t>(blockIdx.x) / division.blocks;
    const int32_t rank = static_cast<int32_t>(blockIdx.x) % division.blocks;
    const int32_t first = (cluster * division.packs + min(cluster, division.more)) * kPack;
    const int32_t first_row = static_cast<int32_t>(blockIdx.y) * rows_of_block;
    results = {.first_row = first_row,
               .rows = min(rows_of_block, args.rows - first_row),
               .first_output = first,
               .outputs = (division.packs + (cluster < division.more ? 1 : 0)) * kPack,
               .rank = rank,
               .blocks = division.blocks};
    x = static_cast<const __nv_bfloat16*>(args.x) + first_row * args.x_stride;
    weight = static_cast<const Float8*>(args.weight) + int64_t{first} * args.in_dim;
    const int32_t chunks = (args.in_dim + kChunk - 1) / kChunk;
    begin = chunks * rank / division.blocks;
    end = chunks * (rank + 1) / division.blocks;
  }
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A warp fetches the weights, a stage as soon as it is free. Behind K they are zeros.
template <int kRows>
__device__ void FetchWeights(const LinearArgs& args, const Work& work, const Division& division,
                             Shared<kRows>& shared) {
  constexpr int kCopies = kChunk / kCopied;  // of a row
  constexpr int kRowsAtOnce = kWarp / kCopies;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int k = lane % kCopies * kCopied;
  const int stage_bytes = division.outputs * kPitch;
  auto place = Filling(shared.weights, division.stages);
  for (int32_t chunk = work.begin; chunk < work.end; ++chunk) {
    place.empty().Wait(place.parity);
    const bool is_there = chunk * kChunk + k < args.in_dim;
    unsigned char* to =
        shared.fetched.weights + place.index * stage_bytes + lane / kCopies * kPitch + k;
    const Float8* from = work.weight;
    if (is_there) from += int64_t{lane / kCopies} * args.in_dim + chunk * kChunk + k;
#pragma unroll 4
    for (int32_t row = lane / kCopies; row < work.results.outputs; row += kRowsAtOnce) {
      CopyAsync(to, from, is_there);
      to += kRowsAtOnce * kPitch;
      from += is_there ? int64_t{kRowsAtOnce} * args.in_dim : 0;
    }
    place.full().ArriveWithCopies();
    place.Advance();
  }
}

// Another one rows of x, which another kernel may have written. What is not there is zero.
template <int kRows>
__device__ void FetchInputs(const LinearArgs& args, const Work& work, Shared<kRows>& shared) {
  constexpr int kCopies = kChunk / kPack;  // of a row
  constexpr int kRowsAtOnce = kWarp / kCopies;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int k = lane % kCopies * kPack;
  const int piece = lane % kCopies % 8;
  auto place = Filling(shared.inputs);
  for (int32_t chunk = work.begin; chunk < work.end; ++chunk) {
    place.empty().Wait(place.parity);
    unsigned char* const image = shared.fetched.x[place.index][lane % kCopies / 8];
    const bool is_there = chunk * kChunk + k < args.in_dim;
    const __nv_bfloat16* from = work.x + lane / kCopies * args.x_stride + chunk * kChunk + k;
#pragma unroll 8
    for (int i = 0; i < kRows / kRowsAtOnce; ++i) {
      const int row = i * kRowsAtOnce + lane / kCopies;
      const bool valid = is_there && row < work.results.rows;
      CopyAsync(image + ImageOffset(row, piece), valid ? from : work.x, valid);
      from += kRowsAtOnce * args.x_stride;
    }
    place.full().ArriveWithCopies();
    place.Advance();
  }
}

constexpr int kSteps = kChunk / 16;  // products of a stage
constexpr int kAtOnce = 2;           // of which so many are started together

// A lane's codes of some products, two neighbours a word: with g = lane / 4 and t = lane % 4 of
// rows g and g + 8, columns 2t of eight and of the eight behind them.
struct Codes {
  uint32_t of[kAtOnce][4];

  // `low` and `high` are those of the lane's rows.
  __device__ Codes(const unsigned char* low, const unsigned char* high) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      of[i][0] = *reinterpret_cast<const uint16_t*>(low + i * 16);
      of[i][1] = *reinterpret_cast<const uint16_t*>(high + i * 16);
      of[i][2] = *reinterpret_cast<const uint16_t*>(low + i * 16 + 8);
      of[i][3] = *reinterpret_cast<const uint16_t*>(high + i * 16 + 8);
    }
  }
  __device__ uint4 Widened(int i) const {
    return make_uint4(WidenPair<0>(of[i][0]), WidenPair<0>(of[i][1]), WidenPair<0>(of[i][2]),
                      WidenPair<0>(of[i][3]));
  }
};

// A warpgroup's sums: weights, widened once for all rows, are the operand in registers, rows of x
// that in shared memory. Weights are widened while the products before work.
template <int kRows>
__device__ void Multiply(const Work& work, const Division& division, Shared<kRows>& shared,
                         float (&sums)[kRows / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int row = static_cast<int>(threadIdx.x) / kWarp * 16 + lane / 4;
  const int last = work.results.outputs - 1;  // What is there takes the place of what is not.
  const unsigned char* const low = shared.fetched.weights + min(row, last) * kPitch + lane % 4 * 2;
  const unsigned char* const high =
      shared.fetched.weights + min(row + 8, last) * kPitch + lane % 4 * 2;
  const int stage_bytes = division.outputs * kPitch;
  auto weights = Draining(shared.weights, division.stages);
  auto inputs = Draining(shared.inputs);
  int used = -1;  // the stage of x that products read which are still at work
  uint4 a[2][kAtOnce];
  for (int32_t chunk = work.begin; chunk < work.end; ++chunk) {
    weights.full().Wait(weights.parity);
    inputs.full().Wait(inputs.parity);
    FenceStores();
    const int stage = weights.index * stage_bytes;
    const unsigned char* const x = shared.fetched.x[inputs.index][0];
    Codes next(low + stage, high + stage);
#pragma unroll
    for (int k = 0; k < kSteps; k += kAtOnce) {
      const Codes codes = next;
      if (k + kAtOnce < kSteps) {
        const int at = stage + (k + kAtOnce) * 16;
        next = Codes(low + at, high + at);
      }
      uint4(&own)[kAtOnce] = a[k / kAtOnce % 2];
      WgmmaWait<1>();
      if (k == kAtOnce && used >= 0 && lane == 0) shared.inputs.empty[used].Arrive();
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) own[i] = codes.Widened(i);
      WgmmaFence();
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) Wgmma<false>(sums, own[i], OfRows(x, k + i, kRows), true);
      WgmmaCommit();
    }
    __syncwarp();
    if (lane == 0) weights.empty().Arrive();
    used = inputs.index;
    weights.Advance();
    inputs.Advance();
  }
  WgmmaWait<0>();
  FenceSums(sums);
}

// By rows of x and outputs.
template <int kRows>
__device__ void KeepSums(const float (&sums)[kRows / 8][4], Shared<kRows>& shared) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int output = static_cast<int>(threadIdx.x) / kWarp * 16 + lane / 4;
  auto& kept = shared.sums[0];
#pragma unroll
  for (int n = 0; n < kRows / 8; ++n) {
    const int row = n * 8 + lane % 4 * 2;
    kept[row][output] = sums[n][0];
    kept[row + 1][output] = sums[n][1];
    kept[row][output + 8] = sums[n][2];
    kept[row + 1][output + 8] = sums[n][3];
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

// Grid: (clusters of blocks that share out K, blocks of kRows rows). Bound by memory up to 64 rows:
// weights are read once, before what came before has ended; then by its products.
template <typename Y, int kRows>
__global__
__launch_bounds__(Form<kRows>::kThreads, Form<kRows>::kBlocksAtOnce) void LinearFloat8GroupsKernel(
    const __grid_constant__ LinearArgs args, const Division division) {
  AllowNextKernel();
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) unsigned char raw[];
  auto& shared = *reinterpret_cast<Shared<kRows>*>(raw);
  const Work work(args, division, kRows);
  const int groups = (work.results.outputs + kGroupTile - 1) / kGroupTile;  // that have outputs
  if (threadIdx.x == 0) {
    shared.inputs.Init(kWarp, groups * kWarpgroup / kWarp);
    shared.weights.Init(kWarp, groups * kWarpgroup / kWarp);
    FenceBarrierInit();
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const bool multiplies = warp * kWarp < groups * kWarpgroup;
  float sums[kRows / 8][4] = {};
  if (multiplies) {
    Multiply(work, division, shared, sums);
  } else if (warp == Form<kRows>::kThreads / kWarp - 2) {
    FetchWeights(args, work, division, shared);
  } else if (warp == Form<kRows>::kThreads / kWarp - 1) {
    AwaitEarlierKernels();
    FetchInputs(args, work, shared);
  }
  AwaitEarlierKernels();
  __syncthreads();  // What was fetched has been used.
  if (multiplies) KeepSums(sums, shared);
  StoreResults<Y, Form<kRows>::kThreads>(args, work.results, shared.sums);
#else
  __trap();  // HasWarpgroupProducts says that there are none.
#endif
}

template <typename Y, int kRows>
LaunchShape ShapeOf(int32_t blocks, int32_t clusters, int32_t row_blocks) {
  return {dim3(clusters * blocks, row_blocks), Form<kRows>::kThreads, sizeof(Shared<kRows>),
          static_cast<uint32_t>(blocks)};
}

// Into what makes the busiest multiprocessor wait for the fewest bytes. Those of x, from the
// level-2 cache, are taken to come twice as fast as weights.
template <typename Y, int kRows>
Division Divide(const LinearArgs& args, int32_t row_blocks) {
  constexpr int kTile = Form<kRows>::kTile;
  static const ClusterRoom room(reinterpret_cast<const void*>(LinearFloat8GroupsKernel<Y, kRows>),
                                ShapeOf<Y, kRows>(1, 1, 1));
  const int32_t chunks = (args.in_dim + kChunk - 1) / kChunk;
  const int32_t packs = args.out_dim / kPack;
  Division best = {};
  int64_t least = INT64_MAX;
  for (int32_t blocks = 1; blocks <= std::min(LargestCluster(), chunks); blocks *= 2) {
    // No more than there are multiprocessors for.
    const int32_t clusters = std::min(MultiprocessorCount() / blocks, room.Of(blocks));
    if (clusters == 0) break;
    const int32_t at_once = std::max(clusters / row_blocks, 1);
    Division d = {};
    d.blocks = blocks;
    const int64_t turns =
        (args.out_dim + int64_t{at_once} * kTile - 1) / (int64_t{at_once} * kTile);
    d.clusters = static_cast<int32_t>(std::min<int64_t>(turns * at_once, packs));
    d.packs = packs / d.clusters;
    d.more = packs % d.clusters;
    d.outputs = (d.packs + (d.more > 0 ? 1 : 0)) * kPack;
    const int64_t share = int64_t{kChunk} * ((chunks + d.blocks - 1) / d.blocks);
    const int64_t cost = turns * (share * (d.outputs + kRows) + (d.blocks > 1 ? kClusterCost : 0));
    if (cost >= least) continue;
    least = cost;
    best = d;
  }
  SLUICE_CHECK(best.outputs > 0);  // A GPU with warpgroups has room for a block.
  best.stages = std::min<int32_t>(
      kMostStages, sizeof(Fetched<kRows>::weights) / (size_t{kPitch} * best.outputs));
  return best;
}

template <typename Y, int kRows>
void Launch(const LinearArgs& args, cudaStream_t stream) {
  const int32_t row_blocks = (args.rows + kRows - 1) / kRows;
  const Division division = Divide<Y, kRows>(args, row_blocks);
  LaunchKernel(ShapeOf<Y, kRows>(division.blocks, division.clusters, row_blocks), stream,
               LinearFloat8GroupsKernel<Y, kRows>, args, division);
}

template <typename Y>
void LaunchTo(const LinearArgs& args, cudaStream_t stream) {
  if (args.rows <= 16) {
    Launch<Y, 16>(args, stream);
  } else if (args.rows <= 32) {
    Launch<Y, 32>(args, stream);
  } else if (args.rows <= 64) {
    Launch<Y, 64>(args, stream);
  } else {
    Launch<Y, 128>(args, stream);
  }
}

}  // namespace

void LinearFloat8GroupsCuda(const LinearArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 1 && args.rows <= kLinearFloat8GroupRows && args.batch == 1);
  SLUICE_CHECK(args.weight_dtype == DType::kFloat8);
  DispatchDType(args.y_dtype, [&](auto y) { LaunchTo<decltype(y)>(args, stream); });
}

}  // namespace sluice
