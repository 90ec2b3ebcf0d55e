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
  StateParts parts;  // of the shape
  int32_t blocks;    // of a cluster, which owns a state head of a row
  int32_t tiles;     // of V; block b has tiles b, b + blocks and so on
  int32_t tile;      // columns
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
  float* slot;    // the layer's part of it

  __device__ const GatedShape& shape() const { return p.args.shape; }
  __device__ const GatedOperands& operands() const { return p.args.operands; }
  __device__ bool exclusive() const { return shape().read == ReadKind::kExclusive; }
  __device__ HeadState state() const { return ViewHead(shape(), p.parts, slot, kv_head); }
  __device__ bool has_ring() const { return shape().state.ring > 0; }
};

// Grid: (blocks of a cluster, state heads, rows).
__device__ inline ReplayBlock MakeReplayBlock(const ReplayParams& p, float* memory) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const auto row = static_cast<int32_t>(blockIdx.z);
  const auto kv_head = static_cast<int32_t>(blockIdx.y);
  float* const slot = op.states + p.args.slots[row] * op.slot_stride;
  return {
      p,
      memory,
      row,
      kv_head,
      static_cast<int32_t>(blockIdx.x),
      s.state.ring > 0 ? min(HeldIn(ViewHead(s, p.parts, slot, kv_head).count), s.state.Held()) : 0,
      static_cast<int32_t>(threadIdx.x) % kReplayLanes,
      static_cast<int32_t>(threadIdx.x) / kReplayLanes,
      slot};
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
  const float before = b.has_ring() ? b.state().value_log_decay[column] : 0.0F;
  const int64_t head = int64_t{b.row} * s.kv_heads + b.kv_head;
  return {before, before + b.operands().value_log_decay[head * s.value_dim + column]};
}

// Query heads of one pass over the state.
struct HeadPass {
  int32_t head;   // the first
  int32_t count;  // 1..heads that share a pass
  int32_t index;  // of the pass
  bool is_last;
};

// The queries of a pass in a channel, scaled; 0 of those that are missing.
template <int kHeads>
struct ChannelQueries {
  float v[kHeads];
};

template <int kHeads>
__device__ ChannelQueries<kHeads> QueriesAt(const ReplayBlock& b, const HeadPass& pass, int32_t c) {
  const GatedShape& s = b.shape();
  const GatedOperands& op = b.operands();
  // Heads that share keys come one at a time.
  const int64_t first = b.row * op.q_stride + int64_t{pass.head / s.shared_keys} * s.key_dim + c;
  ChannelQueries<kHeads> queries;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const bool is_there = kHeads == 1 || h < pass.count;
    queries.v[h] =
        is_there ? LoadNumber(op.q, first + int64_t{h} * s.key_dim, s.dtype) * s.scale : 0.0F;
  }
  return queries;
}

template <int kHeads>
__device__ void StoreQueries(const ReplayBlock& b, const ChannelQueries<kHeads>& queries,
                             int32_t c) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    b.memory[b.p.at.query + h * b.shape().key_dim + c] = queries.v[h];
  }
}

// What a channel of K has: loaded at once, before anything waits for any of it.
struct ChannelOperands {
  float key;
  float log_decay;
  float before;  // G_{t-1}
  float scale;   // of the row
};

__device__ inline ChannelOperands OperandsAt(const ReplayBlock& b, int32_t c) {
  const GatedShape& s = b.shape();
  const GatedOperands& op = b.operands();
  const int64_t key = b.row * op.k_stride + int64_t{b.kv_head / s.shared_keys} * s.key_dim + c;
  const GateView gate = ViewGate(s, op, b.row, b.kv_head);
  return {LoadNumber(op.k, key, s.dtype),
          gate.first == nullptr ? 0.0F : gate.first[c * gate.channel_stride],
          b.has_ring() ? b.state().log_decay[c] : 0.0F,
          s.state.type == StateType::kInt8 ? b.state().scales[c] : 1.0F};
}

// Fills in what the channel is multiplied by; returns whether its decay cannot be grown back.
__device__ inline bool StoreFactors(const ReplayBlock& b, const ChannelOperands& channel,
                                    float input_scale, int32_t c) {
  const ReplayLayout& at = b.p.at;
  const float now = channel.before + channel.log_decay;
  const float decay = expf(now);
  const float read = b.exclusive() ? expf(channel.before) : decay;
  b.memory[at.sums + c] = now;
  b.memory[at.read + c] = read;
  b.memory[at.decay + c] = decay;
  b.memory[at.key + c] = channel.key * input_scale;
  if (b.shape().state.type == StateType::kInt8) {
    b.memory[at.row_read + c] = read * channel.scale;
    b.memory[at.row_decay + c] = decay * channel.scale;
  }
  return now < -kMaxRingLogDecay;
}

// The factors of the head and the queries of its first pass. Returns whether the ring ends with
// this token: all blocks of the cluster find the same. The threads of the block are in step behind
// it.
template <int kHeads>
__device__ bool LoadFactors(const ReplayBlock& b, const HeadPass& pass) {
  constexpr int kBatch = 2;  // channels of a thread at once
  const GatedShape& s = b.shape();
  const GatedOperands& op = b.operands();
  const int64_t head = int64_t{b.row} * s.kv_heads + b.kv_head;
  const float input_scale = op.input_scale == nullptr ? 1.0F : op.input_scale[head];
  bool passes = b.held >= s.state.Held();
#pragma unroll 1
  for (int32_t first = threadIdx.x; first < s.key_dim; first += kBatch * kReplayThreads) {
    ChannelOperands channels[kBatch];
    ChannelQueries<kHeads> queries[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      // A channel behind the last is the last, once more.
      const int32_t c = min(first + i * kReplayThreads, s.key_dim - 1);
      channels[i] = OperandsAt(b, c);
      queries[i] = QueriesAt<kHeads>(b, pass, c);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const int32_t c = first + i * kReplayThreads;
      if (c >= s.key_dim) continue;
      passes |= StoreFactors(b, channels[i], input_scale, c);
      StoreQueries<kHeads>(b, queries[i], c);
    }
  }
  if (s.value_gate) {
#pragma unroll 1
    for (int32_t v = threadIdx.x; v < s.value_dim; v += kReplayThreads) {
      passes |= ValueSumsAt(b, v).now < -kMaxRingLogDecay;
    }
  }
  return __syncthreads_or(passes) != 0;
}

// The queries of a later pass.
template <int kHeads>
__device__ void LoadQueries(const ReplayBlock& b, const HeadPass& pass) {
  __syncthreads();  // The pass before it is done.
#pragma unroll 1
  for (int32_t c = threadIdx.x; c < b.shape().key_dim; c += kReplayThreads) {
    StoreQueries<kHeads>(b, QueriesAt<kHeads>(b, pass, c), c);
  }
  __syncthreads();
}

// A lane's part of the score of query `h` of the pass with token j of the ring.
__device__ inline float RingScore(const ReplayBlock& b, int32_t h, int32_t j) {
  const int32_t key_dim = b.shape().key_dim;
  const float* const query = b.memory + b.p.at.query + h * key_dim;
  const float* const read = b.memory + b.p.at.read;
  const float* const keys = b.state().keys + int64_t{j} * key_dim;
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
#pragma unroll 2
  for (int32_t c = threadIdx.x % kWarp; c < key_dim; c += kWarp) {
    const float weight = b.exclusive() ? bonus[int64_t{b.kv_head} * key_dim + c] : 1.0F;
    const float key = b.memory[b.p.at.key + c] * weight;
    sum = fmaf(b.memory[b.p.at.query + h * key_dim + c], key, sum);
  }
  return sum;
}

// scores[h][j] of the queries of a pass with the tokens of the ring and, behind them, with the
// token itself.
template <int kHeads>
struct ReplayScores {
  float v[kHeads][kMaxStateRing];
  Barrier barrier;  // of a cluster of several blocks: a phase is a pass
};

// All threads of the cluster call it before anything else, and wait for the cluster before they
// share scores.
template <int kHeads>
__device__ void StartScores([[maybe_unused]] ReplayScores<kHeads>& scores, int32_t blocks) {
#if __CUDA_ARCH__ >= 900
  if (blocks > 1 && threadIdx.x == 0) {
    scores.barrier.Init(1);
    FenceBarrierInit();
  }
#endif
  ArriveClusterUnwritten(blocks);
}

// A score is the work of one warp of the cluster, which tells it to all blocks.
template <int kHeads>
__device__ void ShareScores(const ReplayBlock& b, const HeadPass& pass,
                            ReplayScores<kHeads>& scores) {
  const int32_t lane = threadIdx.x % kWarp;
  const int32_t all = (b.held + 1) * pass.count;
  const int32_t step = b.p.blocks * kReplayWarps;
#if __CUDA_ARCH__ >= 900
  if (b.p.blocks > 1 && threadIdx.x == 0) scores.barrier.ArriveExpecting(all * sizeof(float));
#endif
#pragma unroll 1
  for (int32_t i = b.rank * kReplayWarps + threadIdx.x / kWarp; i < all; i += step) {
    const int32_t j = i / pass.count;
    const int32_t h = i - j * pass.count;
    const float part = j < b.held ? RingScore(b, h, j) : OwnScore(b, h);
    const float score = WarpReduce(part, Plus());
#if __CUDA_ARCH__ >= 900
    if (b.p.blocks > 1) {
      if (lane < b.p.blocks) SendToBlock(&scores.v[h][j], score, scores.barrier, lane);
      continue;
    }
#endif
    if (lane == 0) scores.v[h][j] = score;
  }
}

template <int kHeads>
__device__ void AwaitScores(const ReplayBlock& b, [[maybe_unused]] const HeadPass& pass,
                            [[maybe_unused]] ReplayScores<kHeads>& scores) {
#if __CUDA_ARCH__ >= 900
  if (b.p.blocks > 1) {
    scores.barrier.Wait(pass.index % 2);
    return;
  }
#endif
  __syncthreads();
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
    const float4 k = LoadQuad(b.state().keys + int64_t{j} * key_dim + c);
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
    const float4 v = LoadQuad(b.state().values + int64_t{j} * s.value_dim + column);
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
    if (threadIdx.x == 0) *reinterpret_cast<int32_t*>(b.state().count) = folds ? 0 : b.held + 1;
    for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayThreads) {
      const float sum = b.memory[b.p.at.sums + c];
      b.state().log_decay[c] = folds ? 0.0F : sum;
      if (!folds) b.state().keys[held * s.key_dim + c] = b.memory[b.p.at.key + c] * expf(-sum);
    }
  }
  if (threadIdx.x >= b.p.tile) return;
  for (int32_t tile = b.rank; tile < b.p.tiles; tile += b.p.blocks) {
    const int32_t column = tile * b.p.tile + static_cast<int32_t>(threadIdx.x);
    if (column >= s.value_dim) return;
    const float sum = ValueSumsAt(b, column).now;
    if (s.value_gate) b.state().value_log_decay[column] = folds ? 0.0F : sum;
    if (!folds) b.state().values[held * s.value_dim + column] = ValueAt(b, column) * expf(-sum);
  }
}

}  // namespace sluice
