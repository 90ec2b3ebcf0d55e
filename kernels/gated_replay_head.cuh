// What the replay step (gated_replay.cu) does with a head beside its matrix: its factors, the
// scores of its queries, and the ring.
#pragma once

#include <cstdint>

#include "kernels/gated_replay.cuh"
#include "kernels/log_gate.cuh"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

// Of either format: few numbers a head are not worth a kernel of their own.
__device__ inline float LoadNumber(const void* from, int64_t at, DType dtype) {
  return dtype == DType::kFloat32 ? static_cast<const float*>(from)[at]
                                  : ToFloat(static_cast<const __nv_bfloat16*>(from)[at]);
}

// Four neighbours, at an address aligned to them.
__device__ inline float4 LoadNumbers(const void* from, int64_t at, DType dtype) {
  return dtype == DType::kFloat32 ? LoadQuad(static_cast<const float*>(from) + at)
                                  : LoadQuad(static_cast<const __nv_bfloat16*>(from) + at);
}
__device__ inline void StoreNumbers(void* to, int64_t at, DType dtype, float4 x) {
  if (dtype == DType::kFloat32) {
    StoreQuad(static_cast<float*>(to) + at, x);
  } else {
    StoreQuad(static_cast<__nv_bfloat16*>(to) + at, x);
  }
}
__device__ inline float4 RoundTo(DType dtype, float4 x) {
  if (dtype == DType::kFloat32) return x;
  const float2 a = UnpackWord(PackWord(x.x, x.y));
  const float2 b = UnpackWord(PackWord(x.z, x.w));
  return make_float4(a.x, a.y, b.x, b.y);
}

// Starts copying the ring to shared memory, if there is room for it.
template <StateType kType>
__device__ void FetchRing(const ReplayWork<kType>& w) {
  if (!w.plan().copies_ring) return;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const int32_t key_quads = w.held * w.shape().key_dim / 4;
  for (int32_t i = thread; i < key_quads; i += kReplayThreads) {
    CopyAsync(w.at(w.plan().at.ring_keys) + 4 * i, w.state.keys + 4 * i, true);
  }
  const int32_t row_quads = w.shape().value_dim / 4;
  for (int32_t i = thread; i < w.held * row_quads; i += kReplayThreads) {
    const int32_t j = i / row_quads;
    const int32_t to =
        j * w.shape().value_dim + PlaceOfColumn<kType>(w.plan().lanes, 4 * (i - j * row_quads));
    CopyAsync(w.at(w.plan().at.ring_values) + to, w.state.values + 4 * i, true);
  }
}

// The scaled query of head `h` of a pass in a channel; 0 if it is missing.
template <StateType kType>
__device__ float QueryAt(const ReplayWork<kType>& w, const HeadPass& pass, int h, int32_t c) {
  const GatedShape& s = w.shape();
  const GatedOperands& op = w.operands();
  if (h >= pass.count) return 0.0F;
  const int32_t head = (pass.head + h) / s.shared_keys;
  return LoadNumber(op.q, w.row * op.q_stride + int64_t{head} * s.key_dim + c, s.dtype) * s.scale;
}

template <StateType kType>
__device__ float RowScaleAt(const ReplayWork<kType>& w, int32_t c) {
  return kType == StateType::kInt8 ? w.state.scales[c] : 1.0F;
}

// The operands of a thread's channels and columns: every kReplayThreads-th.
template <int kHeads>
struct HeadOperands {
  static constexpr int kChannels = (kMaxGatedDim + kReplayThreads - 1) / kReplayThreads;
  static constexpr int kColumns = (kMaxGatedValueDim + kReplayThreads - 1) / kReplayThreads;

  struct Channel {
    float before;     // G_{t-1}
    float log_decay;  // or its bias, if the step makes it
    float key;
    float row_scale;
    float query[kHeads];
  };
  struct Column {
    float before;  // B_{t-1}
    float log_decay;
    float value;
  };
  Channel channels[kChannels];
  Column columns[kColumns];
  float input_scale;
};

// Calls visit(i, at) for the thread's places in [0, size).
template <int kCount, typename Visit>
__device__ void VisitOwn(int32_t size, const Visit& visit) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const auto at = static_cast<int32_t>(threadIdx.x) + i * kReplayThreads;
    if (at < size) visit(i, at);
  }
}

// Asks for what the factors are made of, and waits for none of it.
template <int kHeads, StateType kType>
__device__ HeadOperands<kHeads> LoadOperands(const ReplayWork<kType>& w, const HeadPass& pass) {
  using Operands = HeadOperands<kHeads>;
  const GatedShape& s = w.shape();
  const GatedOperands& op = w.operands();
  const GateView gate = ViewGate(s, op, w.row, w.kv_head);
  const int64_t first_key = w.row * op.k_stride + int64_t{w.kv_head / s.shared_keys} * s.key_dim;
  const int64_t head = int64_t{w.row} * s.kv_heads + w.kv_head;
  Operands x = {};
  x.input_scale = op.input_scale == nullptr ? 1.0F : op.input_scale[head];
  VisitOwn<Operands::kChannels>(s.key_dim, [&](int i, int32_t c) {
    auto& channel = x.channels[i];
    if (w.has_ring()) channel.before = w.state.log_decay[c];
    if (w.fusion.log_gate) {
      channel.log_decay = w.params.log_gate.bias[w.kv_head * s.key_dim + c];
    } else if (gate.first != nullptr) {
      channel.log_decay = gate.first[c * gate.channel_stride];
    }
    channel.key = LoadNumber(op.k, first_key + c, s.dtype);
    channel.row_scale = RowScaleAt(w, c);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) channel.query[h] = QueryAt(w, pass, h, c);
  });
  const int64_t first_value = w.row * op.v_stride + int64_t{w.kv_head} * s.value_dim;
  VisitOwn<Operands::kColumns>(s.value_dim, [&](int i, int32_t v) {
    auto& column = x.columns[i];
    column.value = LoadNumber(op.v, first_value + v, s.dtype);
    if (!s.value_gate) return;
    if (w.has_ring()) column.before = w.state.value_log_decay[v];
    column.log_decay = op.value_log_decay[head * s.value_dim + v];
  });
  return x;
}

// The log decay of a channel that the step makes itself.
template <StateType kType>
__device__ float MakeLogDecay(const ReplayWork<kType>& w, int32_t c, float bias) {
  const LogGateArgs& gate = w.params.log_gate;
  const float* const weight =
      gate.weight + (int64_t{w.kv_head} * w.shape().key_dim + c) * gate.rank;
  const int64_t row = w.row * gate.x_stride;
  const float sum =
      gate.dtype == DType::kFloat32
          ? SumProducts(static_cast<const float*>(gate.x) + row, weight, gate.rank)
          : SumProducts(static_cast<const __nv_bfloat16*>(gate.x) + row, weight, gate.rank);
  return LogGateOf(sum, bias, 1.0F / gate.normalizer, gate.clamp_min);
}

template <int kHeads, StateType kType>
__device__ void StoreQueries(const ReplayWork<kType>& w, const float (&query)[kHeads], float read,
                             float row_scale, int32_t c) {
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const int32_t at = h * w.shape().key_dim + c;
    const float decayed = query[h] * read;
    w.at(w.plan().at.query)[at] = query[h];
    w.at(w.plan().at.decayed)[at] = decayed;
    if (kType == StateType::kInt8) w.at(w.plan().at.weight)[at] = decayed * row_scale;
  }
}

// The factors of the head and the queries of its first pass. Returns whether the thread has seen a
// decay that cannot be grown back.
template <int kHeads, StateType kType>
__device__ bool StoreFactors(const ReplayWork<kType>& w, const HeadOperands<kHeads>& x) {
  using Operands = HeadOperands<kHeads>;
  const ReplayLayout& at = w.plan().at;
  bool passes = false;
  VisitOwn<Operands::kChannels>(w.shape().key_dim, [&](int i, int32_t c) {
    const auto& channel = x.channels[i];
    float log_decay = channel.log_decay;
    if (w.fusion.log_gate) log_decay = MakeLogDecay(w, c, log_decay);
    const float now = channel.before + log_decay;
    const float decay = expf(now);
    const float read = w.exclusive() ? expf(channel.before) : decay;
    w.at(at.sums)[c] = now;
    w.at(at.read)[c] = read;
    w.at(at.decay)[c] = decay;
    if (kType == StateType::kInt8) {
      w.at(at.row_decay)[c] = decay * channel.row_scale;
      w.at(at.largest)[c] = 0.0F;
    }
    w.at(at.key)[c] = channel.key * x.input_scale;
    StoreQueries(w, channel.query, read, channel.row_scale, c);
    passes |= now < -kMaxRingLogDecay;
  });
  VisitOwn<Operands::kColumns>(w.shape().value_dim, [&](int i, int32_t v) {
    const auto& column = x.columns[i];
    const int32_t place = PlaceOfColumn<kType>(w.plan().lanes, v);
    w.at(at.value)[place] = column.value;
    if (!w.shape().value_gate) return;
    const float now = column.before + column.log_decay;
    w.at(at.value_sums)[v] = now;
    w.at(at.value_read)[v] = expf(w.exclusive() ? column.before : now);
    w.at(at.value_decay)[place] = expf(now);
    passes |= now < -kMaxRingLogDecay;
  });
  return passes;
}

// The queries of a later pass.
template <int kHeads, StateType kType>
__device__ void MakeQueries(const ReplayWork<kType>& w, const HeadPass& pass) {
  for (int32_t c = threadIdx.x; c < w.shape().key_dim; c += kReplayThreads) {
    float query[kHeads];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) query[h] = QueryAt(w, pass, h, c);
    StoreQueries(w, query, w.at(w.plan().at.read)[c], RowScaleAt(w, c), c);
  }
}

// A lane's part of the score of query `h` of the pass with token j of the ring.
template <StateType kType>
__device__ float RingScore(const ReplayWork<kType>& w, int32_t h, int32_t j) {
  const int32_t key_dim = w.shape().key_dim;
  const float* const query = w.at(w.plan().at.decayed) + h * key_dim;
  const auto dot = [&](const float* keys) {
    float sum = 0.0F;
#pragma unroll 2
    for (int32_t c = threadIdx.x % kWarp * 4; c < key_dim; c += 4 * kWarp) {
      const float4 k = LoadQuad(keys + c);
      const float4 q = LoadQuad(query + c);
      sum = fmaf(q.x, k.x, sum);
      sum = fmaf(q.y, k.y, sum);
      sum = fmaf(q.z, k.z, sum);
      sum = fmaf(q.w, k.w, sum);
    }
    return sum;
  };
  const int32_t at = j * key_dim;
  return w.plan().copies_ring ? dot(w.at(w.plan().at.ring_keys) + at) : dot(w.state.keys + at);
}

// The same with the token itself, which is not decayed.
template <StateType kType>
__device__ float OwnScore(const ReplayWork<kType>& w, int32_t h) {
  const int32_t key_dim = w.shape().key_dim;
  const float* const bonus = w.operands().bonus;
  if (w.exclusive() && bonus == nullptr) return 0.0F;
  float sum = 0.0F;
#pragma unroll 2
  for (int32_t c = threadIdx.x % kWarp; c < key_dim; c += kWarp) {
    const float weight = w.exclusive() ? bonus[int64_t{w.kv_head} * key_dim + c] : 1.0F;
    sum = fmaf(w.at(w.plan().at.query)[h * key_dim + c], w.at(w.plan().at.key)[c] * weight, sum);
  }
  return sum;
}

// Scores of the queries of a pass with the tokens held, then with the own one. A score is the work
// of one warp.
template <int kHeads, StateType kType>
__device__ void MakeScores(const ReplayWork<kType>& w, const HeadPass& pass,
                           float (&scores)[kHeads][kMaxStateRing]) {
  constexpr int kWarps = kReplayThreads / kWarp;
  const int32_t all = (w.held + 1) * pass.count;
  for (int32_t i = threadIdx.x / kWarp; i < all; i += kWarps) {
    const int32_t j = i / pass.count;
    const int32_t h = i - j * pass.count;
    const float score = WarpReduce(j < w.held ? RingScore(w, h, j) : OwnScore(w, h), Plus());
    if (threadIdx.x % kWarp == 0) scores[h][j] = score;
  }
}

// What a quad of columns of head `h` of a pass reads of the ring and of the token, and of the
// matrix, which is `sum`.
template <int kHeads, StateType kType>
__device__ float4 OutputsAt(const ReplayWork<kType>& w,
                            const float (&scores)[kHeads][kMaxStateRing], int h, int32_t column,
                            float4 sum) {
  const int32_t place = PlaceOfColumn<kType>(w.plan().lanes, column);
  const auto add_ring = [&](const float* values) {
#pragma unroll 5
    for (int32_t j = 0; j < w.held; ++j, values += w.shape().value_dim) {
      sum = Add(sum, scores[h][j], LoadQuad(values));
    }
  };
  if (w.plan().copies_ring) {
    add_ring(w.at(w.plan().at.ring_values) + place);
  } else {
    add_ring(w.state.values + column);
  }
  if (w.shape().value_gate) sum = Times(sum, LoadQuad(w.at(w.plan().at.value_read) + column));
  return Add(sum, scores[h][w.held], LoadQuad(w.at(w.plan().at.value) + place));
}

// Adds the token to the ring, or empties the ring that was folded with it.
template <StateType kType>
__device__ void MoveRing(const ReplayWork<kType>& w, bool folds) {
  const GatedShape& s = w.shape();
  const int64_t held = w.held;
  if (threadIdx.x == 0) *reinterpret_cast<int32_t*>(w.state.count) = folds ? 0 : w.held + 1;
  for (int32_t c = threadIdx.x; c < s.key_dim; c += kReplayThreads) {
    const float sum = w.at(w.plan().at.sums)[c];
    w.state.log_decay[c] = folds ? 0.0F : sum;
    if (!folds) w.state.keys[held * s.key_dim + c] = w.at(w.plan().at.key)[c] * expf(-sum);
  }
  for (int32_t v = threadIdx.x; v < s.value_dim; v += kReplayThreads) {
    float grown = 1.0F;
    if (s.value_gate) {
      const float sum = w.at(w.plan().at.value_sums)[v];
      w.state.value_log_decay[v] = folds ? 0.0F : sum;
      grown = expf(-sum);
    }
    const float value = w.at(w.plan().at.value)[PlaceOfColumn<kType>(w.plan().lanes, v)];
    if (!folds) w.state.values[held * s.value_dim + v] = value * grown;
  }
}

}  // namespace sluice
