// The step of a tile of a plain state: 64 columns of one head, the work of a block. A thread has 4
// neighbouring columns of every 16th row, so that 16 threads read two 128-byte lines and each has
// kInFlight loads outstanding before the first use.
#pragma once

#include <cstdint>

#include "kernels/gated_step.h"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

constexpr int kTileV = 64;              // columns of a block: two 128-byte lines a row
constexpr int kTileLanes = kTileV / 4;  // threads side by side, 16 bytes each
constexpr int kTileRows = 16;           // rows of the state that a block walks at once
constexpr int kTileThreads = kTileLanes * kTileRows;  // 256
constexpr int kTileWarps = kTileThreads / kWarp;

// Of a head.
constexpr int32_t TilesOf(const GatedShape& s) { return (s.value_dim + kTileV - 1) / kTileV; }

struct Tile {
  int32_t slot_row;  // row of the batch
  int32_t kv_head;
  int32_t value;  // this thread's first column of V
  int32_t key;    // this thread's first row of the state
  bool active;    // whether the column lies inside V
};

// Of the grid (V / kTileV, kv heads, rows).
__device__ inline Tile TileOfBlock(const GatedShape& s) {
  Tile tile;
  tile.slot_row = blockIdx.z;
  tile.kv_head = blockIdx.y;
  tile.value = blockIdx.x * kTileV + threadIdx.x % kTileLanes * 4;
  tile.key = threadIdx.x / kTileLanes;
  tile.active = tile.value < s.value_dim;
  return tile;
}

// What the channels of a state head are multiplied by.
template <int kHeads>
struct Factors {
  float decay[kMaxGatedDim];
  float key[kMaxGatedDim];
  float own[kMaxGatedDim];  // the key times the bonus, if read exclusively
  float query[kHeads][kMaxGatedDim];
};

// The log decays of a tile as the operands have them.
struct GivenDecay {
  GateView gate;
  __device__ float Load(int32_t c) const {
    return gate.first == nullptr ? 0.0F : gate.first[c * gate.channel_stride];
  }
  __device__ float Of(int32_t /*c*/, float loaded) const { return loaded; }
};

// Query heads of one pass.
struct TileHeads {
  int32_t first;
  int32_t count;
};

// Puts the factors into shared memory, with the scaled queries of the heads. All loads of a channel
// come before anything waits for one. The log decay of channel c is log_decay.Of(c, loaded), where
// log_decay.Load(c) is what of it is loaded.
template <typename T, int kHeads, ReadKind kRead, typename LogDecay>
__device__ inline void LoadFactors(const GatedStepArgs& args, const Tile& tile, TileHeads heads,
                                   const LogDecay& log_decay, Factors<kHeads>& factors) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  const int64_t row = tile.slot_row;
  // Heads that share keys come one at a time.
  const T* const q = static_cast<const T*>(op.q) + row * op.q_stride +
                     int64_t{heads.first / s.shared_keys} * s.key_dim;
  const T* const k = static_cast<const T*>(op.k) + row * op.k_stride +
                     int64_t{tile.kv_head / s.shared_keys} * s.key_dim;
  const int64_t kv_index = row * s.kv_heads + tile.kv_head;
  const float scale = op.input_scale == nullptr ? 1.0F : op.input_scale[kv_index];
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kTileThreads) {
    const float loaded = log_decay.Load(c);
    const float key = ToFloat(k[c]);
    float bonus = 0.0F;
    if (kRead == ReadKind::kExclusive && op.bonus != nullptr) {
      bonus = op.bonus[int64_t{tile.kv_head} * s.key_dim + c];
    }
    float query[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      query[h] = kHeads == 1 || h < heads.count ? ToFloat(q[int64_t{h} * s.key_dim + c]) : 0.0F;
    }
    factors.decay[c] = expf(log_decay.Of(c, loaded));
    factors.key[c] = key * scale;
    if (kRead == ReadKind::kExclusive) factors.own[c] = key * scale * bonus;
#pragma unroll
    for (int h = 0; h < kHeads; ++h) factors.query[h][c] = query[h] * s.scale;
  }
}

// A thread's part of a tile, and what its columns are given.
struct TileColumns {
  float* state;      // its first row
  int64_t row_step;  // floats from one of its rows to the next
  int32_t row_count;
  float4 v;
  float4 decay;  // what the values are decayed by
};

template <typename T>
__device__ inline TileColumns LoadColumns(const GatedStepArgs& args, const Tile& tile) {
  const GatedShape& s = args.shape;
  const GatedOperands& op = args.operands;
  TileColumns columns;
  columns.row_count = s.key_dim / kTileRows;
  columns.row_step = int64_t{kTileRows} * s.value_dim;
  columns.state = op.states + args.slots[tile.slot_row] * op.slot_stride +
                  (int64_t{tile.kv_head} * s.key_dim + tile.key) * s.value_dim + tile.value;
  columns.v = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  columns.decay = make_float4(1.0F, 1.0F, 1.0F, 1.0F);
  if (!tile.active) return columns;
  const int64_t column = int64_t{tile.kv_head} * s.value_dim + tile.value;
  columns.v = LoadQuad(static_cast<const T*>(op.v) + tile.slot_row * op.v_stride + column);
  if (!s.value_gate) return columns;
  const int64_t row = int64_t{tile.slot_row} * s.kv_heads * s.value_dim;
  const float4 g = LoadQuad(op.value_log_decay + row + column);
  columns.decay = make_float4(expf(g.x), expf(g.y), expf(g.z), expf(g.w));
  return columns;
}

// a * x + b * y
__device__ inline float4 Blend(float a, float4 x, float b, float4 y) {
  return make_float4(fmaf(a, x.x, b * y.x), fmaf(a, x.y, b * y.y), fmaf(a, x.z, b * y.z),
                     fmaf(a, x.w, b * y.w));
}

// A store of 16 bytes that the compiler does not take apart.
__device__ inline void StoreWhole(float* to_global, float4 x) {
  asm volatile(
      "st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to_global)),
      "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w)
      : "memory");
}

// A row of the state under the token: `row` becomes what is stored, and what is read of it is
// returned.
template <ReadKind kRead>
__device__ inline float4 StepRow(float4& row, float decay, float key, float own, float4 v,
                                 float4 value_decay) {
  const float4 before = row;
  row = Blend(decay, Times(before, value_decay), key, v);
  return kRead == ReadKind::kExclusive ? Add(before, own, v) : row;
}

// One pass over the state: adds what kHeads queries read of it to `sum`, and updates it if this
// pass does. `prepare` fills the factors, for all threads; it is called while loads are on their
// way.
template <int kHeads, int kInFlight, ReadKind kRead, typename Prepare>
__device__ inline void WalkTile(const Tile& tile, const TileColumns& columns, bool updates,
                                const Factors<kHeads>& factors, float4 (&sum)[kHeads],
                                const Prepare& prepare) {
  constexpr bool kExclusive = kRead == ReadKind::kExclusive;
  for (int32_t base = 0; base < columns.row_count; base += kInFlight) {
    float4 rows[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (tile.active && base + i < columns.row_count) {
        rows[i] = LoadQuad(columns.state + (base + i) * columns.row_step);
      }
    }
    if (base == 0) prepare();
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      if (!tile.active || base + i >= columns.row_count) continue;
      const int32_t c = tile.key + (base + i) * kTileRows;
      float4 read = rows[i];
      if (updates) {
        read = StepRow<kRead>(rows[i], factors.decay[c], factors.key[c], factors.own[c], columns.v,
                              columns.decay);
        StoreWhole(columns.state + (base + i) * columns.row_step, rows[i]);
      } else if (kExclusive) {
        read = Add(read, factors.own[c], columns.v);
      }
#pragma unroll
      for (int h = 0; h < kHeads; ++h) sum[h] = Add(sum[h], factors.query[h][c], read);
    }
  }
}

// Sums of a block's warps over their rows.
template <int kHeads>
using TileSums = float[kTileWarps][kHeads][kTileV];

// Adds a thread's sums over its rows to those of its warp, in a fixed order. All threads call it.
template <int kHeads>
__device__ inline void ShareSums(float4 (&sum)[kHeads], TileSums<kHeads>& partial) {
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int offset = kTileLanes; offset < kWarp; offset *= 2) {
      sum[h].x += __shfl_xor_sync(kAllLanes, sum[h].x, offset);
      sum[h].y += __shfl_xor_sync(kAllLanes, sum[h].y, offset);
      sum[h].z += __shfl_xor_sync(kAllLanes, sum[h].z, offset);
      sum[h].w += __shfl_xor_sync(kAllLanes, sum[h].w, offset);
    }
    if (lane < kTileLanes) reinterpret_cast<float4*>(partial[warp][h])[lane] = sum[h];
  }
  __syncthreads();
}

// Column `v` of the tile, once the sums are shared.
template <int kHeads>
__device__ inline float TotalOf(const TileSums<kHeads>& partial, int h, int v) {
  float total = partial[0][h][v];
#pragma unroll
  for (int w = 1; w < kTileWarps; ++w) total += partial[w][h][v];
  return total;
}

}  // namespace sluice
