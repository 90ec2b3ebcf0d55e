// What the replay step (gated_replay.cu) does with a head whatever the state's type is: its
// factors, the scores of its queries, and the ring.
#pragma once

#include <cstdint>

#include "kernels/gated_replay.cuh"

namespace sluice {

__device__ inline float LoadNumber(const void* from, int64_t at, DType dtype) {
  return dtype == DType::kFloat32 ? static_cast<const float*>(from)[at]
                                  : ToFloat(static_cast<const __nv_bfloat16*>(from)[at]);
}

// B_{t-1} and B_t in a column of V, 0 without gated values.
struct ValueSums {
  float before;
  float now;
};
template <int kHeads>
__device__ ValueSums ValueSumsAt(const ReplayWork<kHeads>& w, int32_t column) {
  if (!w.shape().value_gate) return {0.0F, 0.0F};
  const float before = w.has_ring() ? w.copy()[w.p.copy_at.value_log_decay + column] : 0.0F;
  return {before, before + w.copy()[w.p.copy_at.value_gate + column]};
}

// Query heads of one pass over the state.
struct HeadPass {
  int32_t head;   // the first
  int32_t count;  // 1..heads that share a pass
  bool is_first;
  bool is_last;
};

// The query of head `h` of a pass in a channel, scaled; 0 if it is missing.
template <int kHeads>
__device__ float QueryAt(const ReplayWork<kHeads>& w, const HeadPass& pass, int h, int32_t c) {
  const GatedShape& s = w.shape();
  if (kHeads == 1) return LoadNumber(w.copy() + w.p.copy_at.query, c, s.dtype) * s.scale;
  if (h >= pass.count) return 0.0F;
  const GatedOperands& op = w.operands();
  return LoadNumber(op.q, w.row * op.q_stride + int64_t{pass.head + h} * s.key_dim + c, s.dtype) *
         s.scale;
}

// The scale of a row of the matrix; 1 of rows that the block does not have.
template <int kHeads>
__device__ float RowScaleAt(const ReplayWork<kHeads>& w, int32_t c) {
  const ReplaySpan span = SpanOfBlock(w.p);
  const bool has_scale = w.is_int8() && c >= span.begin && c < span.end;
  return has_scale ? w.copy()[w.p.copy_at.scales + c] : 1.0F;
}

template <int kHeads>
__device__ void StoreQueries(const ReplayWork<kHeads>& w, const HeadPass& pass, float row_read,
                             int32_t c) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float query = QueryAt(w, pass, h, c);
    const int32_t at = h * w.shape().key_dim + c;
    w.memory[w.p.at.query + at] = query;
    w.memory[w.p.at.weight + at] = query * row_read;
  }
}

// Fills in what a channel is multiplied by. Returns whether its decay cannot be grown back.
template <int kHeads>
__device__ bool StoreFactors(const ReplayWork<kHeads>& w, const HeadPass& pass, int32_t c) {
  const GatedShape& s = w.shape();
  const ReplayLayout& at = w.p.at;
  const ReplayHeadLayout& from = w.p.copy_at;
  const float before = w.has_ring() ? w.copy()[from.log_decay + c] : 0.0F;
  const float now =
      before + (s.gate == GateKind::kVector ? w.copy()[from.gate + c] : w.item().log_decay);
  const float decay = expf(now);
  const float read = w.exclusive() ? expf(before) : decay;
  const float scale = RowScaleAt(w, c);
  w.memory[at.sums + c] = now;
  w.memory[at.read + c] = read;
  w.memory[at.decay + c] = decay;
  if (w.is_int8()) w.memory[at.row_decay + c] = decay * scale;
  w.memory[at.key + c] = LoadNumber(w.copy() + from.key, c, s.dtype) * w.item().input_scale;
  StoreQueries(w, pass, read * scale, c);
  return now < -kMaxRingLogDecay;
}

// The factors of the head and the queries of its first pass. Returns whether the ring ends with
// this token. The threads are in step behind it.
template <int kHeads>
__device__ bool MakeFactors(const ReplayWork<kHeads>& w, const HeadPass& pass) {
  const GatedShape& s = w.shape();
  bool passes = w.item().held >= s.state.Held();
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayReaders) {
    passes |= StoreFactors(w, pass, c);
  }
  for (int32_t v = threadIdx.x; v < s.value_dim; v += kReplayReaders) {
    w.memory[w.p.at.value + v] = LoadNumber(w.copy() + w.p.copy_at.value, v, s.dtype);
    if (!s.value_gate) continue;
    const ValueSums sums = ValueSumsAt(w, v);
    w.memory[w.p.at.value_read + v] = expf(w.exclusive() ? sums.before : sums.now);
    w.memory[w.p.at.value_decay + v] = expf(sums.now);
    passes |= sums.now < -kMaxRingLogDecay;
  }
  return AnyReader(passes);
}

// The queries of a later pass.
template <int kHeads>
__device__ void MakeQueries(const ReplayWork<kHeads>& w, const HeadPass& pass) {
  for (int32_t c = threadIdx.x; c < w.shape().key_dim; c += kReplayReaders) {
    StoreQueries(w, pass, w.memory[w.p.at.read + c] * RowScaleAt(w, c), c);
  }
  MeetReaders();
}

// A lane's part of the score of query `h` of the pass with token j of the ring.
template <int kHeads>
__device__ float RingScore(const ReplayWork<kHeads>& w, int32_t h, int32_t j) {
  const int32_t key_dim = w.shape().key_dim;
  const float* const query = w.memory + w.p.at.query + h * key_dim;
  const float* const read = w.memory + w.p.at.read;
  const float* const keys = w.keys() + int64_t{j} * key_dim;
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
template <int kHeads>
__device__ float OwnScore(const ReplayWork<kHeads>& w, int32_t h) {
  const int32_t key_dim = w.shape().key_dim;
  const float* const bonus = w.operands().bonus;
  if (w.exclusive() && bonus == nullptr) return 0.0F;
  float sum = 0.0F;
#pragma unroll 2
  for (int32_t c = threadIdx.x % kWarp; c < key_dim; c += kWarp) {
    const float weight = w.exclusive() ? bonus[int64_t{w.kv_head} * key_dim + c] : 1.0F;
    const float key = w.memory[w.p.at.key + c] * weight;
    sum = fmaf(w.memory[w.p.at.query + h * key_dim + c], key, sum);
  }
  return sum;
}

// A score is the work of one warp. They may be read behind the next MeetReaders.
template <int kHeads>
__device__ void MakeScores(const ReplayWork<kHeads>& w, const HeadPass& pass) {
  const int32_t held = w.item().held;
  const int32_t all = (held + 1) * pass.count;
  for (int32_t i = threadIdx.x / kWarp; i < all; i += kReplayWarps) {
    const int32_t j = i / pass.count;
    const int32_t h = i - j * pass.count;
    const float score = WarpReduce(j < held ? RingScore(w, h, j) : OwnScore(w, h), Plus());
    if (threadIdx.x % kWarp == 0) w.shared.scores[h][j] = score;
  }
}

// What a column of head `h` of the pass reads of the ring and of the token, and of the matrix,
// which is `sum`.
template <int kHeads>
__device__ float OutputAt(const ReplayWork<kHeads>& w, int h, int32_t column, float sum) {
  const int32_t value_dim = w.shape().value_dim;
#pragma unroll 4
  for (int32_t j = 0; j < w.item().held; ++j) {
    sum = fmaf(w.shared.scores[h][j], w.values()[int64_t{j} * value_dim + column], sum);
  }
  if (w.shape().value_gate) sum *= w.memory[w.p.at.value_read + column];
  return fmaf(w.shared.scores[h][w.item().held], w.memory[w.p.at.value + column], sum);
}

// Adds the token to the ring, or empties the ring that was folded with it.
template <int kHeads>
__device__ void MoveRing(const ReplayWork<kHeads>& w, bool folds) {
  const GatedShape& s = w.shape();
  const HeadState state = w.state();
  const int64_t held = w.item().held;
  if (threadIdx.x == 0) *reinterpret_cast<int32_t*>(state.count) = folds ? 0 : w.item().held + 1;
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayReaders) {
    const float sum = w.memory[w.p.at.sums + c];
    state.log_decay[c] = folds ? 0.0F : sum;
    if (!folds) state.keys[held * s.key_dim + c] = w.memory[w.p.at.key + c] * expf(-sum);
  }
  for (int32_t v = threadIdx.x; v < s.value_dim; v += kReplayReaders) {
    const float sum = ValueSumsAt(w, v).now;
    if (s.value_gate) state.value_log_decay[v] = folds ? 0.0F : sum;
    if (!folds) state.values[held * s.value_dim + v] = w.memory[w.p.at.value + v] * expf(-sum);
  }
}

}  // namespace sluice
