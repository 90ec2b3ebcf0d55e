// The step with the forget gate before it and the norm after it: of few rows each is over before
// its launch would have been, were it a kernel.
//
// The gate: a block makes its head's log decays from the low-rank activation, by weights that it
// has fetched into shared memory before the operands are there; the blocks of a head do so each for
// itself. The norm: the tiles of a head are a cluster, whose blocks tell each other the sums of
// squares of their packs, and every block adds all of them in the order of norm.cu.
#include <cstddef>
#include <cstdint>

#include "kernels/activation.cuh"
#include "kernels/bulk_copy.cuh"
#include "kernels/check.h"
#include "kernels/cluster.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/gated_step.cuh"
#include "kernels/gated_step_fused_cuda.h"
#include "kernels/gated_step_tile.cuh"
#include "kernels/launch.cuh"
#include "kernels/log_gate.cuh"
#include "kernels/mma.cuh"
#include "kernels/norm.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

// Blocks of a launch. Above, the memory is busy with states: the weights that each block fetches
// for itself cost more than a launch,
constexpr int64_t kMostGateBlocks = 256;
// and so do clusters, since of blocks in clusters fewer run at once.
constexpr int64_t kMostNormBlocks = 128;
// Of a block: three share a multiprocessor.
constexpr size_t kMostSharedBytes = 64 << 10;

constexpr int kTilePacks = kTileV / kPack;

// Pointers of `step` to the parts are the host's.
struct FusedStep {
  GatedStepArgs step;
  StepFusion fusion;
  LogGateArgs log_gate;
  NormArgs norm;
  int32_t blocks;  // of a cluster
};

struct alignas(16) FusedShared {
  Factors<1> factors;
  TileSums<1> partial;
  float squares[kMaxCluster * kTilePacks];  // summed over each pack of the head
  Barrier told;                             // All blocks have told their squares. Of a cluster.
};

// Floats from one row of the gate's weights to the next in shared memory, behind FusedShared: such
// that neighbouring rows begin in other banks.
__host__ __device__ constexpr int32_t GatePitch(int32_t rank) { return rank + 4; }

// Starts copying the weights of a head's channels, each by the thread that makes its factors, and
// brings the biases nearer.
__device__ void FetchGate(const FusedStep& fused, int32_t kv_head, float* weights) {
  const LogGateArgs& gate = fused.log_gate;
  const int32_t channels = fused.step.shape.key_dim;
  const int64_t first = int64_t{kv_head} * channels;
  for (int32_t c = threadIdx.x; c < channels; c += kTileThreads) {
    const float* const from = gate.weight + (first + c) * gate.rank;
    float* const to = weights + c * GatePitch(gate.rank);
    for (int32_t j = 0; j < gate.rank; j += 4) CopyAsync(to + j, from + j, true);
    asm volatile("prefetch.global.L2 [%0];" ::"l"(gate.bias + first + c));
  }
  CopyAsyncCommit();
}

// The log decays of a tile: made from the weights that the thread has fetched, or given.
template <typename T>
struct TileDecay {
  const FusedStep& fused;
  const float* weights;
  const float* bias;  // of the head
  const T* x;         // of the row
  GivenDecay given;

  __device__ float Load(int32_t c) const { return fused.fusion.log_gate ? bias[c] : given.Load(c); }
  __device__ float Of(int32_t c, float loaded) const {
    if (!fused.fusion.log_gate) return loaded;
    const LogGateArgs& gate = fused.log_gate;
    const float* const row = weights + c * GatePitch(gate.rank);
    CopyAsyncWait<0>();
    return LogGateOf(SumProducts(x, row, gate.rank), loaded, 1.0F / gate.normalizer,
                     gate.clamp_min);
  }
};

// The first thing that a block of a cluster does: the others may tell it their squares once all
// have done so.
__device__ void BeginNorm([[maybe_unused]] int32_t blocks, [[maybe_unused]] Barrier& told) {
#if __CUDA_ARCH__ >= 900
  if (blocks == 1) return;
  if (threadIdx.x == 0) {
    told.Init(1);
    FenceBarrierInit();
  }
  __syncwarp();
  if (threadIdx.x == 0) {
    told.ArriveExpecting(blocks * kTilePacks * static_cast<int>(sizeof(float)));
  }
  ArriveClusterUnwritten(blocks);
#endif
}

// Tells all blocks the squares of the thread's pack, which the other lanes of the pack have too:
// each tells one. They do not wait for the state that this one has stored.
__device__ void TellSquares(int32_t blocks, float* to, float squares,
                            [[maybe_unused]] Barrier& told) {
  const int32_t block = static_cast<int32_t>(threadIdx.x) % kPack;
  if (block >= blocks) return;
#if __CUDA_ARCH__ >= 900
  if (blocks > 1) {
    StoreInBlock(AddressInBlock(to, block), squares, AddressInBlock(&told, block));
    return;
  }
#endif
  *to = squares;
}

// A thread's column of the outputs: each of the first kTileV has one.
struct OutputColumn {
  int32_t in_head;  // its number
  bool stores;      // whether there is one, and inside V
};

// Norms the tile's columns, rounded as the step alone would have stored them. `total` is the
// thread's column, `gate` what it is multiplied by before the activation.
template <typename T>
__device__ void StoreNormed(const FusedStep& fused, const Tile& tile, const OutputColumn& column,
                            float total, float weight, T gate, FusedShared& shared) {
  const NormArgs& norm = fused.norm;
  const bool is_column = threadIdx.x < kTileV;  // whole warps
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const float value = ToFloat(FromFloat<T>(total));
  if (fused.blocks > 1) WaitCluster(fused.blocks);  // All blocks have begun.
  float factor = 1.0F;
  if (is_column) {
    Pack pack;  // that the column is of
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      pack.v[i] = __shfl_sync(kAllLanes, value, lane / kPack * kPack + i);
    }
    TellSquares(fused.blocks, &shared.squares[column.in_head / kPack],
                AddPack(pack, 0.0F, true, 0.0F), shared.told);
    if (norm.gate != nullptr) factor = Activated(norm.gate_act, ToFloat(gate));
  }
  if (fused.blocks == 1) __syncthreads();
  if (!is_column) return;
  if (fused.blocks > 1) shared.told.Wait(0);
  float sum = 0.0F;
  for (int32_t first = 0; first < norm.dim; first += kNormRun) {
    const int32_t at = first + lane * kPack;
    sum += WarpReduce(at < norm.dim ? shared.squares[at / kPack] : 0.0F, Plus());
  }
  if (!column.stores) return;
  const float inverse = InverseRoot(sum / static_cast<float>(norm.dim), norm);
  const int64_t to = tile.slot_row * norm.y_stride + int64_t{tile.kv_head} * norm.dim;
  static_cast<T*>(norm.y)[to + column.in_head] =
      FromFloat<T>(Normed(value, 0.0F, inverse, weight) * factor);
}

// Grid: as of the step alone, (V / kTileV, heads, rows); with a norm a cluster has the tiles of a
// head.
template <typename T, ReadKind kRead>
__global__ __launch_bounds__(kTileThreads) void FusedStepKernel(
    const __grid_constant__ FusedStep fused) {
  AllowNextKernel();
  extern __shared__ __align__(16) unsigned char raw[];
  FusedShared& shared = *reinterpret_cast<FusedShared*>(raw);
  float* const gate_weights = reinterpret_cast<float*>(raw + sizeof(FusedShared));
  const GatedStepArgs& step = fused.step;
  const GatedShape& s = step.shape;
  const Tile tile = TileOfBlock(s);
  const int64_t head_column = int64_t{tile.kv_head} * s.value_dim;
  OutputColumn column;
  column.in_head = static_cast<int32_t>(blockIdx.x * kTileV + threadIdx.x);
  column.stores = threadIdx.x < kTileV && column.in_head < s.value_dim;
  if (fused.fusion.norm) BeginNorm(fused.blocks, shared.told);
  if (fused.fusion.log_gate) FetchGate(fused, tile.kv_head, gate_weights);
  float norm_weight = 1.0F;
  if (fused.fusion.norm && fused.norm.weight != nullptr && column.stores) {
    norm_weight = fused.norm.weight[(fused.norm.wide_weight ? head_column : 0) + column.in_head];
  }
  AwaitEarlierKernels();

  float4 sum[1] = {};
  T norm_gate = FromFloat<T>(0.0F);
  const auto load_gate = [&] {
    if (fused.fusion.norm && fused.norm.gate != nullptr && column.stores) {
      norm_gate = static_cast<const T*>(
          fused.norm.gate)[tile.slot_row * fused.norm.gate_stride + head_column + column.in_head];
    }
  };
  if (FillsUp(step, tile.slot_row)) {  // As the step alone: 0, which is normed.
    load_gate();
    CopyAsyncWait<0>();  // No thread ends before its copies.
  } else {
    const TileDecay<T> log_decay = {
        fused,
        gate_weights,
        fused.log_gate.bias + int64_t{tile.kv_head} * s.key_dim,
        static_cast<const T*>(fused.log_gate.x) + tile.slot_row * fused.log_gate.x_stride,
        {ViewGate(s, step.operands, tile.slot_row, tile.kv_head)}};
    WalkTile<1, 16, kRead>(tile, LoadColumns<T>(step, tile), true, shared.factors, sum, [&] {
      load_gate();
      LoadFactors<T, 1, kRead>(step, tile, {tile.kv_head, 1}, log_decay, shared.factors);
      __syncthreads();
    });
  }
  ShareSums(sum, shared.partial);
  const float total = threadIdx.x < kTileV ? TotalOf(shared.partial, 0, threadIdx.x) : 0.0F;
  if (fused.fusion.norm) {
    StoreNormed<T>(fused, tile, column, total, norm_weight, norm_gate, shared);
  } else if (column.stores) {
    const int64_t row = int64_t{tile.slot_row} * s.heads * s.value_dim;
    static_cast<T*>(step.operands.out)[row + head_column + column.in_head] = FromFloat<T>(total);
  }
}

size_t SharedBytes(const GatedStepArgs& args, bool has_gate) {
  if (!has_gate) return sizeof(FusedShared);
  return sizeof(FusedShared) + GatePitch(args.log_gate->rank) * args.shape.key_dim * sizeof(float);
}

int64_t BlocksOf(const GatedStepArgs& args) {
  return int64_t{args.rows} * args.shape.heads * TilesOf(args.shape);
}

}  // namespace

StepFusion PlainFusionOf(const GatedStepArgs& args, bool portable) {
  const int64_t blocks = BlocksOf(args);
  return {.log_gate = HasGateToMake(args) && blocks <= kMostGateBlocks &&
                      SharedBytes(args, true) <= kMostSharedBytes,
          .norm = HasNormOfHeads(args) && blocks <= kMostNormBlocks &&
                  TilesOf(args.shape) <= (portable ? 1 : LargestCluster())};
}

void FusedStepCuda(const GatedStepArgs& args, const StepFusion& fusion, cudaStream_t stream) {
  FusedStep fused = {};
  fused.step = args;
  fused.fusion = fusion;
  if (fusion.log_gate) {
    CheckLogGate(*args.log_gate);
    fused.log_gate = *args.log_gate;
  }
  if (fusion.norm) {
    CheckNorm(*args.norm);
    fused.norm = *args.norm;
  }
  const int32_t tiles = TilesOf(args.shape);
  fused.blocks = fusion.norm ? tiles : 1;
  const dim3 grid(tiles, args.shape.heads, args.rows);
  const LaunchShape shape = {grid, kTileThreads, SharedBytes(args, fusion.log_gate),
                             static_cast<uint32_t>(fused.blocks)};
  DispatchDType(args.shape.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (args.shape.read == ReadKind::kExclusive) {
      LaunchKernel(shape, stream, FusedStepKernel<T, ReadKind::kExclusive>, fused);
    } else {
      LaunchKernel(shape, stream, FusedStepKernel<T, ReadKind::kInclusive>, fused);
    }
  });
}

}  // namespace sluice
