#include "kernels/gated_step.h"

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kTileV = 32;                      // columns of a block: one 128-byte line a row
constexpr int kLanesV = kTileV / 4;             // threads side by side, 16 bytes each
constexpr int kRowGroups = 16;                  // rows of the state that a block walks at once
constexpr int kThreads = kLanesV * kRowGroups;  // 128
constexpr int kWarps = kThreads / kWarp;

struct Tile {
  int32_t slot_row;  // row of the batch
  int32_t kv_head;
  int32_t value;  // this thread's first column of V
  int32_t key;    // this thread's first row of the state
  bool active;    // whether the column lies inside V
};

// Puts decay, key and the scaled queries of `count` heads from `head` on into shared memory.
template <typename T, int kHeads>
__device__ void LoadFactors(const GatedStepArgs& args, const Tile& tile, int32_t head,
                            int32_t count, float* decay, float* key, float (*query)[kMaxGatedDim]) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const int64_t row = tile.slot_row;
  const T* const q = static_cast<const T*>(op.q) + row * op.q_stride + int64_t{head} * s.key_dim;
  const T* const k =
      static_cast<const T*>(op.k) + row * op.k_stride + int64_t{tile.kv_head} * s.key_dim;
  const float* const g = op.log_decay + (row * s.kv_heads + tile.kv_head) * s.key_dim;
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kThreads) {
    decay[c] = expf(g[c]);
    key[c] = ToFloat(k[c]);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      query[h][c] = h < count ? ToFloat(q[int64_t{h} * s.key_dim + c]) * s.scale : 0.0F;
    }
  }
}

// Adds a thread's sums over its rows to those of the others, in a fixed order, and stores the
// block's columns of `count` heads from `head` on.
template <typename T, int kHeads>
__device__ void StoreOutput(const GatedStepArgs& args, const Tile& tile, int32_t head,
                            int32_t count, float4 (&sum)[kHeads],
                            float (*partial)[kHeads][kTileV]) {
  const GatedShape& s = args.shape;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int offset = kLanesV; offset < kWarp; offset *= 2) {
      sum[h].x += __shfl_xor_sync(kAllLanes, sum[h].x, offset);
      sum[h].y += __shfl_xor_sync(kAllLanes, sum[h].y, offset);
      sum[h].z += __shfl_xor_sync(kAllLanes, sum[h].z, offset);
      sum[h].w += __shfl_xor_sync(kAllLanes, sum[h].w, offset);
    }
    if (lane < kLanesV) reinterpret_cast<float4*>(partial[warp][h])[lane] = sum[h];
  }
  __syncthreads();
  const int32_t value0 = blockIdx.x * kTileV;
  for (int i = threadIdx.x; i < count * kTileV; i += kThreads) {
    const int h = i / kTileV;
    const int v = i % kTileV;
    if (value0 + v >= s.value_dim) continue;
    float total = partial[0][h][v];
#pragma unroll
    for (int w = 1; w < kWarps; ++w) total += partial[w][h][v];
    const int64_t at = (int64_t{tile.slot_row} * s.heads + head + h) * s.value_dim + value0 + v;
    static_cast<T*>(args.operands.out)[at] = FromFloat<T>(total);
  }
}

// Grid: (V / kTileV, kv heads, rows). A block owns 32 columns of one state: a thread 4 neighbouring
// columns of every 16th row, so that 8 threads read a 128-byte line and each has kInFlight loads
// outstanding before the first use. kHeads query heads share a pass over the state; the first pass
// updates it. Bound by memory: the state read once and written once.
template <typename T, int kHeads, int kInFlight>
__global__ __launch_bounds__(kThreads) void GatedStepKernel(
    const __grid_constant__ GatedStepArgs args) {
  __shared__ float decay[kMaxGatedDim];
  __shared__ float key[kMaxGatedDim];
  __shared__ float query[kHeads][kMaxGatedDim];
  __shared__ __align__(16) float partial[kWarps][kHeads][kTileV];

  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  Tile tile;
  tile.slot_row = blockIdx.z;
  tile.kv_head = blockIdx.y;
  tile.value = blockIdx.x * kTileV + threadIdx.x % kLanesV * 4;
  tile.key = threadIdx.x / kLanesV;
  tile.active = tile.value < s.value_dim;

  const int32_t row_count = s.key_dim / kRowGroups;  // of this thread
  const int64_t row_step = int64_t{kRowGroups} * s.value_dim;
  float* const state = op.states + args.slots[tile.slot_row] * op.slot_stride +
                       (int64_t{tile.kv_head} * s.key_dim + tile.key) * s.value_dim + tile.value;
  float4 v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  if (tile.active) {
    v = LoadQuad(static_cast<const T*>(op.v) + int64_t{tile.slot_row} * op.v_stride +
                 int64_t{tile.kv_head} * s.value_dim + tile.value);
  }

  const int32_t group = s.heads / s.kv_heads;
  for (int32_t first = 0; first < group; first += kHeads) {
    const int32_t head = tile.kv_head * group + first;
    const int32_t count = min(kHeads, group - first);
    float4 sum[kHeads] = {};
    for (int32_t base = 0; base < row_count; base += kInFlight) {
      float4 rows[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (tile.active && base + i < row_count) rows[i] = LoadQuad(state + (base + i) * row_step);
      }
      if (base == 0) {  // While the loads are on their way.
        __syncthreads();
        LoadFactors<T, kHeads>(args, tile, head, count, decay, key, query);
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (!tile.active || base + i >= row_count) continue;
        const int32_t c = tile.key + (base + i) * kRowGroups;
        if (first == 0) {
          const float a = decay[c];
          const float k = key[c];
          rows[i].x = fmaf(a, rows[i].x, k * v.x);
          rows[i].y = fmaf(a, rows[i].y, k * v.y);
          rows[i].z = fmaf(a, rows[i].z, k * v.z);
          rows[i].w = fmaf(a, rows[i].w, k * v.w);
          *reinterpret_cast<float4*>(state + (base + i) * row_step) = rows[i];
        }
#pragma unroll
        for (int h = 0; h < kHeads; ++h) {
          const float q = query[h][c];
          sum[h].x = fmaf(q, rows[i].x, sum[h].x);
          sum[h].y = fmaf(q, rows[i].y, sum[h].y);
          sum[h].z = fmaf(q, rows[i].z, sum[h].z);
          sum[h].w = fmaf(q, rows[i].w, sum[h].w);
        }
      }
    }
    StoreOutput<T, kHeads>(args, tile, head, count, sum, partial);
  }
}

}  // namespace

void GatedStepCuda(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  CheckGatedOperands(s, op);
  SLUICE_CHECK(args.rows >= 0 && args.rows <= 65535);
  SLUICE_CHECK(op.slot_stride % 4 == 0 && IsAligned16(op.states) && IsAligned16(op.v));
  if (args.rows == 0) return;
  const dim3 grid((s.value_dim + kTileV - 1) / kTileV, s.kv_heads, args.rows);
  // One query head a state head is what models have; groups share passes of eight.
  DispatchDType(s.dtype, [&](auto zero) {
    if (s.heads == s.kv_heads) {
      GatedStepKernel<decltype(zero), 1, 16><<<grid, kThreads, 0, stream>>>(args);
    } else {
      GatedStepKernel<decltype(zero), 8, 8><<<grid, kThreads, 0, stream>>>(args);
    }
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
