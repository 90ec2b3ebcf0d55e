// The step of heads of few rows: with one of them a block had little to read, and would spend its
// time on beginning and ending. So a block has the same columns of several neighbouring heads,
// together as many rows as of one large head, of which each thread reads all that it has before it
// waits. A head is summed in the order of a tile of its own.
#include <cstdint>

#include "kernels/cuda_ops.h"
#include "kernels/gated_step.cuh"
#include "kernels/gated_step_small_cuda.h"
#include "kernels/gated_step_tile.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreadRows = 16;  // of all heads of a block
// Tiles a multiprocessor. With fewer all run at once, or nearly: the more blocks, the sooner over.
constexpr int32_t kLeastTiles = 3;

template <int kHeads>
constexpr int kHeadRows = kThreadRows / kHeads;  // of a thread in a head
template <int kHeads>
constexpr int kMostRows = kHeadRows<kHeads>* kTileRows;  // K, at most

// Heads of a block, of which the last ones may be missing.
template <int kHeads>
struct SmallHeads {
  int32_t row;    // of the batch
  int32_t first;  // state head
  int32_t value;  // the block's first column of V

  __device__ SmallHeads()
      : row(blockIdx.z), first(blockIdx.y * kHeads), value(blockIdx.x * kTileV) {}
};

// What the rows and columns of the heads are multiplied by.
template <int kHeads>
struct SmallFactors {
  float decay[kHeads][kMostRows<kHeads>];
  float key[kHeads][kMostRows<kHeads>];
  float own[kHeads][kMostRows<kHeads>];  // the key times the bonus, if read exclusively
  float query[kHeads][kMostRows<kHeads>];
  float value[kHeads][kTileV];
  float value_decay[kHeads][kTileV];
};

// The factors of a row, each by one thread.
template <typename T, int kHeads, ReadKind kRead>
__device__ void LoadRowFactors(const GatedStepArgs& args, const SmallHeads<kHeads>& heads,
                               SmallFactors<kHeads>& factors) {
  static_assert(kHeads * kMostRows<kHeads> == kTileThreads);
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const int32_t h = static_cast<int32_t>(threadIdx.x) / kMostRows<kHeads>;
  const int32_t c = static_cast<int32_t>(threadIdx.x) % kMostRows<kHeads>;
  const int32_t head = heads.first + h;
  if (c >= s.key_dim || head >= s.kv_heads) return;
  const GivenDecay log_decay = {ViewGate(s, op, heads.row, head)};
  const int64_t channel = int64_t{head / s.shared_keys} * s.key_dim + c;
  const float g = log_decay.Load(c);
  const float query = ToFloat(static_cast<const T*>(op.q)[heads.row * op.q_stride + channel]);
  const float key = ToFloat(static_cast<const T*>(op.k)[heads.row * op.k_stride + channel]);
  float scale = 1.0F;
  if (op.input_scale != nullptr) scale = op.input_scale[int64_t{heads.row} * s.kv_heads + head];
  float bonus = 0.0F;
  if (kRead == ReadKind::kExclusive && op.bonus != nullptr) {
    bonus = op.bonus[int64_t{head} * s.key_dim + c];
  }
  factors.decay[h][c] = expf(g);
  factors.key[h][c] = key * scale;
  if (kRead == ReadKind::kExclusive) factors.own[h][c] = key * scale * bonus;
  factors.query[h][c] = query * s.scale;
}

// Those of a column, likewise.
template <typename T, int kHeads>
__device__ void LoadColumnFactors(const GatedStepArgs& args, const SmallHeads<kHeads>& heads,
                                  SmallFactors<kHeads>& factors) {
  static_assert(kHeads * kTileV <= kTileThreads);
  const GatedShape& s = args.shape;
  const int32_t h = static_cast<int32_t>(threadIdx.x) / kTileV;
  const int32_t v = static_cast<int32_t>(threadIdx.x) % kTileV;
  const int32_t head = heads.first + h;
  if (h >= kHeads || head >= s.kv_heads || heads.value + v >= s.value_dim) return;
  const int64_t column = int64_t{head} * s.value_dim + heads.value + v;
  const T* const values = static_cast<const T*>(args.operands.v);
  factors.value[h][v] = ToFloat(values[heads.row * args.operands.v_stride + column]);
  const int64_t row = int64_t{heads.row} * s.kv_heads * s.value_dim;
  factors.value_decay[h][v] =
      s.value_gate ? expf(args.operands.value_log_decay[row + column]) : 1.0F;
}

// Grid: (V / kTileV, kv heads / kHeads, rows). Bound by memory: the state read once and written
// once.
template <typename T, int kHeads, ReadKind kRead>
__global__ __launch_bounds__(kTileThreads,
                             2) void SmallStepKernel(const __grid_constant__ GatedStepArgs args) {
  EnterStream();
  __shared__ __align__(16) SmallFactors<kHeads> factors;
  __shared__ __align__(16) TileSums<kHeads> partial;
  constexpr int kRows = kHeadRows<kHeads>;
  const GatedShape& s = args.shape;
  const SmallHeads<kHeads> heads;
  if (FillsUp(args, heads.row)) {
    for (int h = 0; h < kHeads && heads.first + h < s.kv_heads; ++h) {
      ZeroOutputs(args, heads.row, heads.first + h, blockIdx.x * kTileThreads + threadIdx.x,
                  gridDim.x * kTileThreads);
    }
    return;
  }
  const int32_t lane = static_cast<int32_t>(threadIdx.x) % kTileLanes;
  const int32_t key = static_cast<int32_t>(threadIdx.x) / kTileLanes;  // the first
  const int32_t count = min(kHeads, s.kv_heads - heads.first);
  const int32_t row_count = heads.value + 4 * lane < s.value_dim ? s.key_dim / kTileRows : 0;
  const int64_t row_step = int64_t{kTileRows} * s.value_dim;
  const int64_t head_step = int64_t{s.key_dim} * s.value_dim;
  float* const state = args.operands.states + args.slots[heads.row] * args.operands.slot_stride +
                       heads.first * head_step + int64_t{key} * s.value_dim + heads.value +
                       4 * lane;
  float4 rows[kHeads][kRows];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (h < count && i < row_count) rows[h][i] = LoadQuad(state + h * head_step + i * row_step);
    }
  }
  LoadRowFactors<T, kHeads, kRead>(args, heads, factors);
  LoadColumnFactors<T>(args, heads, factors);
  __syncthreads();

  float4 sum[kHeads] = {};
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float4 v = LoadQuad(&factors.value[h][4 * lane]);
    const float4 value_decay = LoadQuad(&factors.value_decay[h][4 * lane]);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      if (h >= count || i >= row_count) continue;
      const int32_t c = key + i * kTileRows;
      const float4 read = StepRow<kRead>(rows[h][i], factors.decay[h][c], factors.key[h][c],
                                         factors.own[h][c], v, value_decay);
      StoreWhole(state + h * head_step + i * row_step, rows[h][i]);
      sum[h] = Add(sum[h], factors.query[h][c], read);
    }
  }
  ShareSums(sum, partial);
  const int32_t h = static_cast<int32_t>(threadIdx.x) / kTileV;
  const int32_t v = static_cast<int32_t>(threadIdx.x) % kTileV;
  if (h >= count || heads.value + v >= s.value_dim) return;
  const int64_t at =
      (int64_t{heads.row} * s.heads + heads.first + h) * s.value_dim + heads.value + v;
  static_cast<T*>(args.operands.out)[at] = FromFloat<T>(TotalOf(partial, h, v));
}

template <int kHeads>
void Launch(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const dim3 grid(TilesOf(s), (s.kv_heads + kHeads - 1) / kHeads, args.rows);
  DispatchDType(s.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (s.read == ReadKind::kExclusive) {
      LaunchKernel({grid, kTileThreads}, stream, SmallStepKernel<T, kHeads, ReadKind::kExclusive>,
                   args);
    } else {
      LaunchKernel({grid, kTileThreads}, stream, SmallStepKernel<T, kHeads, ReadKind::kInclusive>,
                   args);
    }
  });
}

}  // namespace

bool SharesBlocks(const GatedStepArgs& args) {
  const GatedShape& s = args.shape;
  return s.heads == s.kv_heads && s.key_dim <= kMostRows<2> &&
         int64_t{args.rows} * s.kv_heads * TilesOf(s) >= kLeastTiles * MultiprocessorCount();
}

void SmallStepCuda(const GatedStepArgs& args, cudaStream_t stream) {
  if (args.shape.key_dim <= kMostRows<4>) {
    Launch<4>(args, stream);
  } else {
    Launch<2>(args, stream);
  }
}

}  // namespace sluice
