// What a block of the replay step (gated_replay.cu) does whatever the state's type is: the factors
// of its head, the scores of its queries, and the ring.
#pragma once

#include <cstdint>

#include "kernels/cluster.cuh"
#include "kernels/gated_step.h"
#include "kernels/head_state.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/packed_state.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

constexpr int kReplayLanes = 8;    // threads side by side: 128 bytes of a row of the state
constexpr int kReplayGroups = 16;  // rows of the state that a block walks at once
constexpr int kReplayThreads = kReplayLanes * kReplayGroups;
constexpr int kReplayWarps = kReplayThreads / kWarp;

// Where a block's arrays lie in its shared memory, in floats; each 16-byte aligned.
struct ReplayLayout {
  int32_t sums;         // [K]: G_t
  int32_t read;         // [K]: exp(G_t), or exp(G_{t-1})
  int32_t decay;        // [K]: exp(G_t)
  int32_t row_read;     // [K]: read times the row's scale; of int8, else read itself
  int32_t row_decay;    // [K]: decay times that
  int32_t key;          // [K]: c k
  int32_t query;        // [heads of a pass, K]: scaled
  int32_t value;        // [tile]: v
  int32_t value_read;   // [tile]: exp(B_t), or exp(B_{t-1}); 1 without gated values
  int32_t value_decay;  // [tile]: exp(B_t), in the order of fold_values
  int32_t fold_keys;    // [max(L, 1), K]: exp(G_t) k^, the token's own key behind them
  int32_t fold_values;  // [max(L, 1), tile]: exp(B_t) v^, and v; quads as threads take them
  int32_t largest;      // [blocks, K]: of int8, what each block has found in the rows
  int32_t end;
};

struct ReplayParams {
  GatedStepArgs args;
  int32_t blocks;  // of a cluster, which owns a state head of a row
  int32_t tiles;   // of V; block b has tiles b, b + blocks and so on
  int32_t tile;    // columns
  ReplayLayout at;
};

// What a block has to do.
struct ReplayBlock {
  const ReplayParams& p;
  float* memory;  // shared
  int32_t row;    // of the batch
  int32_t kv_head;
  int32_t rank;   // in the cluster
  int32_t held;   // tokens in the ring
  int32_t lane;   // of the thread, in [0, kReplayLanes)
  int32_t group;  // of rows, in [0, kReplayGroups)
  HeadState state;

  __device__ const GatedShape& shape() const { return p.args.shape; }
  __device__ const GatedOperands& operands() const { return p.args.operands; }
  __device__ bool exclusive() const { return shape().read == ReadKind::kExclusive; }
  __device__ bool has_ring() const { return shape().state.ring > 0; }
};

__device__ inline ReplayBlock MakeReplayBlock(const ReplayParams& p, float* memory) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const auto head = static_cast<int32_t>(blockIdx.x) / p.blocks;
  const int32_t row = head / s.kv_heads;
  const int32_t kv_head = head % s.kv_heads;
  const HeadState state = ViewHead(s, op.states + p.args.slots[row] * op.slot_stride, kv_head);
  return {p,
          memory,
          row,
          kv_head,
          static_cast<int32_t>(blockIdx.x) % p.blocks,
          s.state.ring > 0 ? HeldIn(state.count) : 0,
          static_cast<int32_t>(threadIdx.x) % kReplayLanes,
          static_cast<int32_t>(threadIdx.x) / kReplayLanes,
          state};
}

__device__ inline float LoadNumber(const void* from, int64_t at, DType dtype) {
  return dtype == DType::kFloat32 ? static_cast<const float*>(from)[at]
                                  : ToFloat(static_cast<const __nv_bfloat16*>(from)[at]);
}

// The token's number in a column of V.
__device__ inline float ValueAt(const ReplayBlock& b, int32_t column) {
  const GatedOperands& op = b.operands();
  const int64_t at = b.row * op.v_stride + int64_t{b.kv_head} * b.shape().value_dim + column;
  return LoadNumber(op.v, at, b.shape().dtype);
}

// B_{t-1} and B_t in a column of V, 0 without gated values.
struct ValueSums {
  float before;
  float now;
};
__device__ inline ValueSums ValueSumsAt(const ReplayBlock& b, int32_t column) {
  const GatedShape& s = b.shape();
  if (!s.value_gate) return {0.0F, 0.0F};
  const float before = b.has_ring() ? b.state.value_log_decay[column] : 0.0F;
  const int64_t head = int64_t{b.row} * s.kv_heads + b.kv_head;
  return {before, before + b.operands().value_log_decay[head * s.value_dim + column]};
}

// The scaled queries of `count` heads from `head` on; those that are missing are zero.
template <int kHeads>
__device__ void LoadQueries(const ReplayBlock& b, int32_t head, int32_t count) {
  const GatedShape& s = b.shape();
  const GatedOperands& op = b.operands();
  // Heads that share keys come one at a time.
  const int64_t first = b.row * op.q_stride + int64_t{head / s.shared_keys} * s.key_dim;
  float* const query = b.memory + b.p.at.query;
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayThreads) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const int64_t at = first + int64_t{h} * s.key_dim + c;
      query[h * s.key_dim + c] = h < count ? LoadNumber(op.q, at, s.dtype) * s.scale : 0.0F;
    }
  }
}

// Fills in what the channels are multiplied by. Returns whether the ring ends with this token: all
// blocks of the cluster find the same. The threads of the block are in step behind it.
__device__ inline bool LoadFactors(const ReplayBlock& b) {
  const GatedShape& s = b.shape();
  const GatedOperands& op = b.operands();
  const ReplayLayout& at = b.p.at;
  const int64_t head = int64_t{b.row} * s.kv_heads + b.kv_head;
  const int64_t first_key = b.row * op.k_stride + int64_t{b.kv_head / s.shared_keys} * s.key_dim;
  const GateView gate = ViewGate(s, op, b.row, b.kv_head);
  const float input_scale = op.input_scale == nullptr ? 1.0F : op.input_scale[head];
  const bool is_int8 = s.state.type == StateType::kInt8;
  bool passes = b.held >= s.state.Held();
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayThreads) {
    const float key = LoadNumber(op.k, first_key + c, s.dtype);
    const float log_decay = gate.first == nullptr ? 0.0F : gate.first[c * gate.channel_stride];
    const float before = b.has_ring() ? b.state.log_decay[c] : 0.0F;
    const float scale = is_int8 ? b.state.scales[c] : 1.0F;
    const float now = before + log_decay;
    const float decay = expf(now);
    const float read = b.exclusive() ? expf(before) : decay;
    passes |= now < -kMaxRingLogDecay;
    b.memory[at.sums + c] = now;
    b.memory[at.read + c] = read;
    b.memory[at.decay + c] = decay;
    b.memory[at.key + c] = key * input_scale;
    if (is_int8) {
      b.memory[at.row_read + c] = read * scale;
      b.memory[at.row_decay + c] = decay * scale;
    }
  }
  if (s.value_gate) {
    for (int32_t v = threadIdx.x; v < s.value_dim; v += kReplayThreads) {
      passes |= ValueSumsAt(b, v).now < -kMaxRingLogDecay;
    }
  }
  return __syncthreads_or(passes) != 0;
}

// A lane's part of the score of query `h` of the pass with token j of the ring.
__device__ inline float RingScore(const ReplayBlock& b, int32_t h, int32_t j) {
  const int32_t key_dim = b.shape().key_dim;
  const float* const query = b.memory + b.p.at.query + h * key_dim;
  const float* const read = b.memory + b.p.at.read;
  const float* const keys = b.state.keys + int64_t{j} * key_dim;
  float sum = 0.0F;
#pragma unroll 2
  for (int32_t c = threadIdx.x % kWarp * 4; c < key_dim; c += 4 * kWarp) {
    const float4 k = LoadQuad(keys + c);
    const float4 q = LoadQuad(query + c);
    const float4 r = LoadQuad(read + c);
    sum = fmaf(q.x * r.x, k.x, sum);
    sum = fmaf(q.y * r.y, k.y, sum);
    sum = fmaf(q.z * r.z, k.z, sum);
    sum = fmaf(q.w * r.w, k.w, sum);
  }
  return sum;
}

// The same with the token itself, which is not decayed.
__device__ inline float OwnScore(const ReplayBlock& b, int32_t h) {
  const int32_t key_dim = b.shape().key_dim;
  const float* const bonus = b.operands().bonus;
  if (b.exclusive() && bonus == nullptr) return 0.0F;
  float sum = 0.0F;
  for (int32_t c = threadIdx.x % kWarp; c < key_dim; c += kWarp) {
    const float weight = b.exclusive() ? bonus[int64_t{b.kv_head} * key_dim + c] : 1.0F;
    const float key = b.memory[b.p.at.key + c] * weight;
    sum = fmaf(b.memory[b.p.at.query + h * key_dim + c], key, sum);
  }
  return sum;
}

// scores[h][j] of `count` queries with the tokens of the ring and, behind them, the token itself: a
// score is the work of one warp of the cluster, which tells it to all blocks.
template <int kHeads>
__device__ void ShareScores(const ReplayBlock& b, int32_t count,
                            float (&scores)[kHeads][kMaxStateRing]) {
  const int32_t lane = threadIdx.x % kWarp;
  const int32_t all = (b.held + 1) * count;
  const int32_t step = b.p.blocks * kReplayWarps;
  for (int32_t i = b.rank * kReplayWarps + threadIdx.x / kWarp; i < all; i += step) {
    const int32_t j = i / count;
    const int32_t h = i - j * count;
    const float part = j < b.held ? RingScore(b, h, j) : OwnScore(b, h);
    const float score = WarpReduce(part, Plus());
    if (lane < b.p.blocks) *InBlock(&scores[h][j], lane) = score;
  }
}

// The token's values in the columns of a tile, and what is read there is multiplied by.
__device__ inline void LoadTileValues(const ReplayBlock& b, int32_t tile) {
  const int32_t i = threadIdx.x;
  const int32_t column = tile * b.p.tile + i;
  if (i >= b.p.tile || column >= b.shape().value_dim) return;
  const ValueSums sums = ValueSumsAt(b, column);
  b.memory[b.p.at.value + i] = ValueAt(b, column);
  b.memory[b.p.at.value_read + i] = expf(b.exclusive() ? sums.before : sums.now);
}

// What the keys of a fold are, for all tiles of the block.
__device__ inline void StageFoldKeys(const ReplayBlock& b) {
  const int32_t key_dim = b.shape().key_dim;
  const float* const decay = b.memory + b.p.at.decay;
  float* const staged = b.memory + b.p.at.fold_keys;
  const int32_t quads = key_dim / 4;  // at most as many as threads
  const int32_t at_once = kReplayThreads / quads;
  const int32_t first = threadIdx.x / quads;
  const int32_t c = threadIdx.x % quads * 4;
  if (first >= at_once) return;
#pragma unroll 4
  for (int32_t j = first; j < b.held; j += at_once) {
    const float4 k = LoadQuad(b.state.keys + int64_t{j} * key_dim + c);
    const float4 d = LoadQuad(decay + c);
    *reinterpret_cast<float4*>(staged + j * key_dim + c) =
        make_float4(k.x * d.x, k.y * d.y, k.z * d.z, k.w * d.w);
  }
  if (first > 0) return;
  *reinterpret_cast<float4*>(staged + b.held * key_dim + c) = LoadQuad(b.memory + b.p.at.key + c);
}
static_assert(kMaxGatedDim / 4 <= kReplayThreads, "a thread has one quad of a key");

// Where quad `quad` of a tile's row is staged: the first quads of all lanes, then the second ones,
// so that lanes side by side read what lies side by side. A lane has `lane_quads` of them.
__device__ inline int32_t StagedAt(int32_t quad, int32_t lane_quads) {
  return 4 * (quad % lane_quads * kReplayLanes + quad / lane_quads);
}

// What the values of a fold are, in the columns of a tile.
__device__ inline void StageFoldValues(const ReplayBlock& b, int32_t tile) {
  const GatedShape& s = b.shape();
  const int32_t quads = b.p.tile / 4;
  const int32_t quad = threadIdx.x % quads;
  const int32_t column = tile * b.p.tile + 4 * quad;
  if (column >= s.value_dim) return;
  const int32_t to = StagedAt(quad, quads / kReplayLanes);
  float* const staged = b.memory + b.p.at.fold_values + to;
  float4 decay;
  decay.x = expf(ValueSumsAt(b, column).now);
  decay.y = expf(ValueSumsAt(b, column + 1).now);
  decay.z = expf(ValueSumsAt(b, column + 2).now);
  decay.w = expf(ValueSumsAt(b, column + 3).now);
  const int32_t at_once = kReplayThreads / quads;
  const int32_t first = threadIdx.x / quads;
#pragma unroll 4
  for (int32_t j = first; j < b.held; j += at_once) {
    const float4 v = LoadQuad(b.state.values + int64_t{j} * s.value_dim + column);
    *reinterpret_cast<float4*>(staged + j * b.p.tile) =
        make_float4(v.x * decay.x, v.y * decay.y, v.z * decay.z, v.w * decay.w);
  }
  if (first > 0) return;
  *reinterpret_cast<float4*>(b.memory + b.p.at.value_decay + to) = decay;
  *reinterpret_cast<float4*>(staged + b.held * b.p.tile) = make_float4(
      ValueAt(b, column), ValueAt(b, column + 1), ValueAt(b, column + 2), ValueAt(b, column + 3));
}

// What a fold of the tile multiplies by is in shared memory behind it.
__device__ inline void StageFold(const ReplayBlock& b, int32_t tile) {
  __syncthreads();  // The tile before it is done with.
  if (tile == b.rank) StageFoldKeys(b);
  StageFoldValues(b, tile);
  __syncthreads();
}

// Adds the token to the ring, or empties the ring that was folded with it. The other blocks have
// read the ring's sums.
__device__ inline void MoveRing(const ReplayBlock& b, bool folds) {
  const GatedShape& s = b.shape();
  const int64_t held = b.held;
  if (b.rank == 0) {
    if (threadIdx.x == 0) *reinterpret_cast<int32_t*>(b.state.count) = folds ? 0 : b.held + 1;
    for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayThreads) {
      const float sum = b.memory[b.p.at.sums + c];
      b.state.log_decay[c] = folds ? 0.0F : sum;
      if (!folds) b.state.keys[held * s.key_dim + c] = b.memory[b.p.at.key + c] * expf(-sum);
    }
  }
  if (threadIdx.x >= b.p.tile) return;
  for (int32_t tile = b.rank; tile < b.p.tiles; tile += b.p.blocks) {
    const int32_t column = tile * b.p.tile + static_cast<int32_t>(threadIdx.x);
    if (column >= s.value_dim) return;
    const float sum = ValueSumsAt(b, column).now;
    if (s.value_gate) b.state.value_log_decay[column] = folds ? 0.0F : sum;
    if (!folds) b.state.values[held * s.value_dim + column] = ValueAt(b, column) * expf(-sum);
  }
}

}  // namespace sluice
