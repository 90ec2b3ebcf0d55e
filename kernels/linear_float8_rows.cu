#include <algorithm>

#include "kernels/check.h"
#include "kernels/float8.cuh"
#include "kernels/launch.cuh"
#include "kernels/linear_cuda.h"
#include "kernels/linear_float8_results.cuh"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kTile = 128;                            // outputs of a block
constexpr int kWarpTile = 32;                         // of a warp: two operands of 16
constexpr int kParts = kWarps / (kTile / kWarpTile);  // warps that share out K
constexpr int kChunk = 128;                           // of K: a stage
constexpr int kStep = 4 * kPack;  // of K: two products, of which a lane has a pack
constexpr int kPartSteps = kChunk / kStep / kParts;
constexpr int kSumPitch = kTile + 4;  // of neighbouring rows other banks
constexpr int kCopied = 16;           // bytes of a copy

// Units of 16 bytes lie in an order that depends on the row, so that the rows that a warp reads at
// once lie in other banks. See WeightAt and InputAt.
template <int kRows>
struct Stage {
  Float8 weights[kTile][kChunk];
  __nv_bfloat16 x[kRows][kChunk];

  // The k-th weight of a row, k a multiple of 8.
  __device__ Float8* WeightAt(int row, int k) {
    return &weights[row][((k / 16) ^ (row % 4 * 2)) * 16 + k % 16];
  }
  __device__ __nv_bfloat16* InputAt(int row, int k) {
    return &x[row][((k / 8) ^ (row % 2 * 4)) * 8];
  }
};

// About half of what a multiprocessor has, and no more than any GPU has.
template <int kRows>
constexpr int kStages = kRows == 64 ? 3 : 4;

template <int kRows>
union Shared {
  Stage<kRows> stages[kStages<kRows>];
  float sums[kParts][kRows][kSumPitch];  // once the stages are done with
};

// What a block multiplies: some rows of x, a tile of the outputs, its share of the chunks of K.
struct Work {
  Results results;
  const __nv_bfloat16* x;
  const Float8* weight;  // of the tile
  int32_t begin;         // of the chunks
  int32_t end;

  __device__ Work(const LinearArgs& args, int32_t blocks, int rows_of_block) {
    const int32_t rank = static_cast<int32_t>(blockIdx.x) % blocks;
    const int32_t first_output = static_cast<int32_t>(blockIdx.x) / blocks * kTile;
    const int32_t first_row = static_cast<int32_t>(blockIdx.y) * rows_of_block;
    results = {.first_row = first_row,
               .rows = min(rows_of_block, args.rows - first_row),
               .first_output = first_output,
               .outputs = min(kTile, args.out_dim - first_output),
               .rank = rank,
               .blocks = blocks};
    x = static_cast<const __nv_bfloat16*>(args.x) + first_row * args.x_stride;
    weight = static_cast<const Float8*>(args.weight) + int64_t{first_output} * args.in_dim;
    const int32_t chunks = (args.in_dim + kChunk - 1) / kChunk;
    begin = chunks * rank / blocks;
    end = chunks * (rank + 1) / blocks;
  }
};

// What is not there is zero.
template <int kRows>
__device__ void FetchWeights(const LinearArgs& args, const Work& work, int32_t chunk,
                             Stage<kRows>& to) {
  constexpr int kCopies = kChunk / kCopied;  // of a row
#pragma unroll
  for (int i = 0; i < kTile * kCopies / kThreads; ++i) {
    const int copy = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = copy / kCopies;
    const int k = copy % kCopies * kCopied;
    const bool is_there = row < work.results.outputs && chunk * kChunk + k < args.in_dim;
    const int64_t at = is_there ? int64_t{row} * args.in_dim + chunk * kChunk + k : 0;
    CopyAsync(to.WeightAt(row, k), work.weight + at, is_there);
  }
}
template <int kRows>
__device__ void FetchInputs(const LinearArgs& args, const Work& work, int32_t chunk,
                            Stage<kRows>& to) {
  constexpr int kCopies = kChunk / kPack;  // of a row
#pragma unroll
  for (int i = 0; i < kRows * kCopies / kThreads; ++i) {
    const int copy = i * kThreads + static_cast<int>(threadIdx.x);
    const int row = copy / kCopies;
    const int k = copy % kCopies * kPack;
    const bool is_there = row < work.results.rows && chunk * kChunk + k < args.in_dim;
    const int64_t at = is_there ? row * args.x_stride + chunk * kChunk + k : 0;
    CopyAsync(to.InputAt(row, k), work.x + at, is_there);
  }
}

// The sums of a warp: 32 outputs of all rows.
template <int kRows>
struct Sums {
  float of[kWarpTile / 16][kRows / 8][4] = {};
};

__device__ int OwnOutput() {
  return static_cast<int>(threadIdx.x) / kWarp % (kTile / kWarpTile) * kWarpTile;
}
__device__ int OwnPart() { return static_cast<int>(threadIdx.x) / kWarp / (kTile / kWarpTile); }

// Adds the products of the warp's part of a chunk. Weights, widened once for all rows, are the
// first operand of the tensor cores, rows of x the second; a lane has packs of neighbours along K
// of both, and a product takes the columns in the order in which the packs hold them.
template <int kRows>
__device__ void AddChunk(Stage<kRows>& stage, Sums<kRows>& sums) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 0; step < kPartSteps; ++step) {
    const int k = (OwnPart() * kPartSteps + step) * kStep + lane % 4 * kPack;
    uint4 first[kWarpTile / 16];
    uint4 second[kWarpTile / 16];
#pragma unroll
    for (int o = 0; o < kWarpTile / 16; ++o) {
      const int row = OwnOutput() + o * 16 + lane / 4;
      const uint4 low = LoadEight(stage.WeightAt(row, k));
      const uint4 high = LoadEight(stage.WeightAt(row + 8, k));
      first[o] = make_uint4(low.x, high.x, low.y, high.y);
      second[o] = make_uint4(low.z, high.z, low.w, high.w);
    }
#pragma unroll
    for (int r = 0; r < kRows / 8; ++r) {
      const uint4 x = *reinterpret_cast<const uint4*>(stage.InputAt(r * 8 + lane / 4, k));
#pragma unroll
      for (int o = 0; o < kWarpTile / 16; ++o) Mma(sums.of[o][r], first[o], x.x, x.y);
#pragma unroll
      for (int o = 0; o < kWarpTile / 16; ++o) Mma(sums.of[o][r], second[o], x.z, x.w);
    }
  }
}

// All chunks of the block. Weights are asked for before what came before has ended.
template <int kRows>
__device__ void Multiply(const LinearArgs& args, const Work& work, Shared<kRows>& shared,
                         Sums<kRows>& sums) {
  constexpr int kAhead = kStages<kRows> - 1;  // chunks
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (work.begin + i < work.end) FetchWeights(args, work, work.begin + i, shared.stages[i]);
  }
  AwaitEarlierKernels();
#pragma unroll
  for (int i = 0; i < kAhead; ++i) {
    if (work.begin + i < work.end) FetchInputs(args, work, work.begin + i, shared.stages[i]);
    CopyAsyncCommit();
  }
  int at = 0;
  int ahead = kAhead;
  for (int32_t chunk = work.begin; chunk < work.end; ++chunk) {
    CopyAsyncWait<kAhead - 1>();
    __syncthreads();  // The chunk is there, and what the one before it used is free.
    if (chunk + kAhead < work.end) {
      FetchWeights(args, work, chunk + kAhead, shared.stages[ahead]);
      FetchInputs(args, work, chunk + kAhead, shared.stages[ahead]);
    }
    CopyAsyncCommit();
    AddChunk(shared.stages[at], sums);
    at = at == kAhead ? 0 : at + 1;
    ahead = ahead == kAhead ? 0 : ahead + 1;
  }
  CopyAsyncWait<0>();
  __syncthreads();
}

template <int kRows>
__device__ void KeepSums(const Sums<kRows>& sums, Shared<kRows>& shared) {
  const int lane = threadIdx.x % kWarp;
  auto& own = shared.sums[OwnPart()];
#pragma unroll
  for (int o = 0; o < kWarpTile / 16; ++o) {
    const int output = OwnOutput() + o * 16 + lane / 4;
#pragma unroll
    for (int r = 0; r < kRows / 8; ++r) {
      const int row = r * 8 + lane % 4 * 2;
      own[row][output] = sums.of[o][r][0];
      own[row + 1][output] = sums.of[o][r][1];
      own[row][output + 8] = sums.of[o][r][2];
      own[row + 1][output + 8] = sums.of[o][r][3];
    }
  }
}

// Grid: (tiles of the outputs times the blocks that share out K, blocks of kRows rows); a cluster
// is the blocks of a tile. Bound by memory: a weight is read once for kRows rows.
template <typename Y, int kRows>
__global__ __launch_bounds__(kThreads, kRows == 64 ? 1 : 2) void LinearFloat8RowsKernel(
    const __grid_constant__ LinearArgs args, int32_t blocks) {
  extern __shared__ __align__(16) unsigned char raw[];
  auto& shared = *reinterpret_cast<Shared<kRows>*>(raw);
  AllowNextKernel();
  const Work work(args, blocks, kRows);
  Sums<kRows> sums;
  Multiply(args, work, shared, sums);
  KeepSums(sums, shared);
  StoreResults<Y, kThreads>(args, work.results, shared.sums);
}

// Into how many blocks K is shared out: what leaves the busiest multiprocessor the fewest chunks,
// where starting and ending a block takes about as long as one.
int32_t BlocksOfTile(int32_t tiles, int32_t chunks) {
  const int32_t most = std::min({LargestCluster(), kMaxCluster, chunks});
  int32_t best = 1;
  int64_t least = INT64_MAX;
  for (int32_t blocks = 1; blocks <= most; ++blocks) {
    const int32_t at_once = MultiprocessorCount();
    const int64_t turns = (int64_t{tiles} * blocks + at_once - 1) / at_once;
    const int64_t cost = turns * ((chunks + blocks - 1) / blocks + 1);
    if (cost >= least) continue;
    least = cost;
    best = blocks;
  }
  return best;
}

template <typename Y, int kRows>
void Launch(const LinearArgs& args, cudaStream_t stream) {
  const int32_t tiles = (args.out_dim + kTile - 1) / kTile;
  const int32_t row_blocks = (args.rows + kRows - 1) / kRows;
  const int32_t blocks = BlocksOfTile(tiles * row_blocks, (args.in_dim + kChunk - 1) / kChunk);
  const LaunchShape shape = {dim3(tiles * blocks, row_blocks), kThreads, sizeof(Shared<kRows>),
                             static_cast<uint32_t>(blocks)};
  LaunchKernel(shape, stream, LinearFloat8RowsKernel<Y, kRows>, args, blocks);
}

template <typename Y>
void LaunchTo(const LinearArgs& args, cudaStream_t stream) {
  if (args.rows <= 16) {
    Launch<Y, 16>(args, stream);
  } else if (args.rows <= 32) {
    Launch<Y, 32>(args, stream);
  } else {
    Launch<Y, 64>(args, stream);
  }
}

}  // namespace

void LinearFloat8RowsCuda(const LinearArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 1 && args.rows <= kLinearFloat8Rows && args.batch == 1);
  SLUICE_CHECK(args.weight_dtype == DType::kFloat8);
  DispatchDType(args.y_dtype, [&](auto y) { LaunchTo<decltype(y)>(args, stream); });
}

}  // namespace sluice
