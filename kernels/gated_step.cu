#include "kernels/gated_step.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gated_replay_cuda.h"
#include "kernels/gated_step.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kTileV = 64;                      // columns of a block: two 128-byte lines a row
constexpr int kLanesV = kTileV / 4;             // threads side by side, 16 bytes each
constexpr int kRowGroups = 16;                  // rows of the state that a block walks at once
constexpr int kThreads = kLanesV * kRowGroups;  // 256
constexpr int kWarps = kThreads / kWarp;

struct Tile {
  int32_t slot_row;  // row of the batch
  int32_t kv_head;
  int32_t value;  // this thread's first column of V
  int32_t key;    // this thread's first row of the state
  bool active;    // whether the column lies inside V
};

// What the channels of a state head are multiplied by.
template <int kHeads>
struct Factors {
  float decay[kMaxGatedDim];
  float key[kMaxGatedDim];
  float own[kMaxGatedDim];  // the key times the bonus, if read exclusively
  float query[kHeads][kMaxGatedDim];
};

// Puts the factors into shared memory, with the scaled queries of `count` heads from `head` on. All
// loads of a channel come before anything waits for one.
template <typename T, int kHeads, ReadKind kRead>
__device__ void LoadFactors(const GatedStepArgs& args, const Tile& tile, int32_t head,
                            int32_t count, Factors<kHeads>& factors) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const int64_t row = tile.slot_row;
  // Heads that share keys come one at a time.
  const T* const q =
      static_cast<const T*>(op.q) + row * op.q_stride + int64_t{head / s.shared_keys} * s.key_dim;
  const T* const k = static_cast<const T*>(op.k) + row * op.k_stride +
                     int64_t{tile.kv_head / s.shared_keys} * s.key_dim;
  const GateView gate = ViewGate(s, op, row, tile.kv_head);
  const int64_t kv_index = row * s.kv_heads + tile.kv_head;
  const float scale = op.input_scale == nullptr ? 1.0F : op.input_scale[kv_index];
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kThreads) {
    const float log_decay = gate.first == nullptr ? 0.0F : gate.first[c * gate.channel_stride];
    const float key = ToFloat(k[c]);
    float bonus = 0.0F;
    if (kRead == ReadKind::kExclusive && op.bonus != nullptr) {
      bonus = op.bonus[int64_t{tile.kv_head} * s.key_dim + c];
    }
    float query[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      query[h] = kHeads == 1 || h < count ? ToFloat(q[int64_t{h} * s.key_dim + c]) : 0.0F;
    }
    factors.decay[c] = expf(log_decay);
    factors.key[c] = key * scale;
    if (kRead == ReadKind::kExclusive) factors.own[c] = key * scale * bonus;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) factors.query[h][c] = query[h] * s.scale;
  }
}

// a * x + b * y
__device__ float4 Blend(float a, float4 x, float b, float4 y) {
  return make_float4(fmaf(a, x.x, b * y.x), fmaf(a, x.y, b * y.y), fmaf(a, x.z, b * y.z),
                     fmaf(a, x.w, b * y.w));
}

__device__ float4 Times(float4 x, float4 y) {
  return make_float4(x.x * y.x, x.y * y.y, x.z * y.z, x.w * y.w);
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

// The values of this thread's columns, and what they are decayed by.
template <typename T>
__device__ void LoadValues(const GatedStepArgs& args, const Tile& tile, float4* v, float4* decay) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  *v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  *decay = make_float4(1.0F, 1.0F, 1.0F, 1.0F);
  if (!tile.active) return;
  const int64_t column = int64_t{tile.kv_head} * s.value_dim + tile.value;
  *v = LoadQuad(static_cast<const T*>(op.v) + tile.slot_row * op.v_stride + column);
  if (!s.value_gate) return;
  const int64_t row = int64_t{tile.slot_row} * s.kv_heads * s.value_dim;
  const float4 g = LoadQuad(op.value_log_decay + row + column);
  *decay = make_float4(expf(g.x), expf(g.y), expf(g.z), expf(g.w));
}

// Grid: (V / kTileV, kv heads, rows). A block owns 64 columns of one state: a thread 4 neighbouring
// columns of every 16th row, so that 16 threads read two 128-byte lines and each has kInFlight
// loads outstanding before the first use. kHeads query heads share a pass over the state; the first
// pass updates it, or the last one if all have to read what was before. Bound by memory: the state
// read once and written once.
template <typename T, int kHeads, int kInFlight, ReadKind kRead>
__global__ __launch_bounds__(kThreads) void GatedStepKernel(
    const __grid_constant__ GatedStepArgs args) {
  EnterStream();
  __shared__ Factors<kHeads> factors;
  __shared__ __align__(16) float partial[kWarps][kHeads][kTileV];
  constexpr bool kExclusive = kRead == ReadKind::kExclusive;

  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  Tile tile;
  tile.slot_row = blockIdx.z;
  tile.kv_head = blockIdx.y;
  tile.value = blockIdx.x * kTileV + threadIdx.x % kLanesV * 4;
  tile.key = threadIdx.x / kLanesV;
  tile.active = tile.value < s.value_dim;
  if (FillsUp(args, tile.slot_row)) {
    ZeroOutputs(args, tile.slot_row, tile.kv_head, blockIdx.x * kThreads + threadIdx.x,
                gridDim.x * kThreads);
    return;
  }

  const int32_t row_count = s.key_dim / kRowGroups;  // of this thread
  const int64_t row_step = int64_t{kRowGroups} * s.value_dim;
  float* const state = op.states + args.slots[tile.slot_row] * op.slot_stride +
                       (int64_t{tile.kv_head} * s.key_dim + tile.key) * s.value_dim + tile.value;
  float4 v;
  float4 value_decay;
  LoadValues<T>(args, tile, &v, &value_decay);

  const int32_t group = s.heads / s.kv_heads;
  for (int32_t first = 0; first < group; first += kHeads) {
    const int32_t head = tile.kv_head * group + first;
    const int32_t count = min(kHeads, group - first);
    const bool updates = kExclusive ? first + kHeads >= group : first == 0;
    float4 sum[kHeads] = {};
    for (int32_t base = 0; base < row_count; base += kInFlight) {
      float4 rows[kInFlight];
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (tile.active && base + i < row_count) rows[i] = LoadQuad(state + (base + i) * row_step);
      }
      if (base == 0) {  // While the loads are on their way.
        __syncthreads();
        LoadFactors<T, kHeads, kRead>(args, tile, head, count, factors);
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kInFlight; ++i) {
        if (!tile.active || base + i >= row_count) continue;
        const int32_t c = tile.key + (base + i) * kRowGroups;
        float4 read = kExclusive ? Add(rows[i], factors.own[c], v) : rows[i];
        if (updates) {
          const float4 decayed = Times(rows[i], value_decay);
          const float4 now = Blend(factors.decay[c], decayed, factors.key[c], v);
          *reinterpret_cast<float4*>(state + (base + i) * row_step) = now;
          if (!kExclusive) read = now;
        }
#pragma unroll
        for (int h = 0; h < kHeads; ++h) sum[h] = Add(sum[h], factors.query[h][c], read);
      }
    }
    StoreOutput<T, kHeads>(args, tile, head, count, sum, partial);
  }
}

// One query head a state head is what models have; groups share passes of eight.
template <typename T, ReadKind kRead>
void LaunchStep(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const dim3 grid((s.value_dim + kTileV - 1) / kTileV, s.kv_heads, args.rows);
  if (s.heads == s.kv_heads) {
    LaunchKernel({grid, kThreads}, stream, GatedStepKernel<T, 1, 16, kRead>, args);
  } else {
    LaunchKernel({grid, kThreads}, stream, GatedStepKernel<T, 8, 8, kRead>, args);
  }
}

}  // namespace

void GatedStepCuda(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  CheckGatedOperands(s, op);
  SLUICE_CHECK(args.rows >= 0 && args.rows <= 65535);
  SLUICE_CHECK(op.slot_stride % 4 == 0 && IsAligned16(op.states) && IsAligned16(op.v));
  SLUICE_CHECK(IsAligned16(op.value_log_decay));
  if (args.rows == 0) return;
  if (!s.state.IsPlain()) {
    GatedReplayCuda(args, stream);
    return;
  }
  DispatchDType(s.dtype, [&](auto zero) {
    if (s.read == ReadKind::kExclusive) {
      LaunchStep<decltype(zero), ReadKind::kExclusive>(args, stream);
    } else {
      LaunchStep<decltype(zero), ReadKind::kInclusive>(args, stream);
    }
  });
}

}  // namespace sluice
