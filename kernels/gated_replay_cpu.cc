// One token of a head at a time: the outputs are read from the matrix and the ring as they are, and
// only then does the token come to the ring, or all of the ring to the matrix.
#include "kernels/gated_replay_cpu.h"

#include <algorithm>
#include <cstring>

#include "kernels/gated_step_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gated_replay_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gated_gate-inl.h"
#include "kernels/packed_state-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// One side of a head's decays: the channels of K or the columns of V.
template <int kDim>
struct RunningDecays {
  HWY_ALIGN float sum[kDim];    // G_t
  HWY_ALIGN float decay[kDim];  // exp(G_t)
  HWY_ALIGN float read[kDim];   // what is read is decayed by this

  // Adds the token's gates(i), i over [0, count), to the sums so far: null for zeros. Returns
  // whether one has passed the limit.
  template <typename Gates>
  HWY_INLINE bool Add(const float* before, const Gates& gates, int64_t count, ReadKind kind) {
    const Floats d;
    for (int64_t i = 0; i < count; i += FloatLanes()) {
      const auto old = before == nullptr ? hn::Zero(d) : hn::LoadU(d, before + i);
      const auto now = hn::Add(old, gates(i));
      hn::StoreU(now, d, sum + i);
      hn::StoreU(Decays(now), d, decay + i);
      hn::StoreU(Decays(kind == ReadKind::kExclusive ? old : now), d, read + i);
    }
    return std::any_of(sum, sum + count, [](float g) { return g < -kMaxRingLogDecay; });
  }
};

// One state head of one row.
struct ReplayHead {
  const GatedShape& shape;
  HeadState state;
  int64_t held;                       // tokens in the ring
  bool folds;                         // whether this token ends the ring
  const float* q;                     // [group, K]
  const float* v;                     // [V]
  const float* bonus;                 // [K] or null
  float* out;                         // [group, V]
  HWY_ALIGN float key[kMaxGatedDim];  // c k
  RunningDecays<kMaxGatedDim> keys;
  RunningDecays<kMaxGatedValueDim> values;  // if values are gated
};

// What an output reads the matrix and the ring with.
struct ReplayQuery {
  HWY_ALIGN float decayed[kMaxGatedDim];  // scaled
  float scores[kMaxStateRing];            // of the tokens in the ring
  float own;                              // of the token itself
};

HWY_INLINE float Dot(const float* a, const float* b, int64_t count) {
  const Floats d;
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < count; i += FloatLanes()) {
    sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

HWY_INLINE void MakeQuery(const ReplayHead& head, const float* q, ReplayQuery& query) {
  const Floats d;
  const int64_t key_dim = head.shape.key_dim;
  const auto scale = hn::Set(d, head.shape.scale);
  const bool exclusive = head.shape.read == ReadKind::kExclusive;
  auto own = hn::Zero(d);
  for (int64_t c = 0; c < key_dim; c += FloatLanes()) {
    const auto scaled = hn::Mul(hn::LoadU(d, q + c), scale);
    auto key = hn::LoadU(d, head.key + c);
    if (head.bonus != nullptr) key = hn::Mul(key, hn::LoadU(d, head.bonus + c));
    own = hn::MulAdd(scaled, key, own);
    hn::StoreU(hn::Mul(scaled, hn::LoadU(d, head.keys.read + c)), d, query.decayed + c);
  }
  const bool has_own = !exclusive || head.bonus != nullptr;
  query.own = has_own ? hn::GetLane(hn::SumOfLanes(d, own)) : 0.0F;
  for (int64_t j = 0; j < head.held; ++j) {
    query.scores[j] = Dot(query.decayed, head.state.keys + j * key_dim, key_dim);
  }
}

// kVectors vectors of columns of an output.
template <StateType kType, int kVectors>
HWY_INLINE void ReadColumns(const ReplayHead& head, const ReplayQuery& query, int64_t column,
                            float* out) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  const int64_t value_dim = head.shape.value_dim;
  FloatVec sum[kVectors];
  for (int n = 0; n < kVectors; ++n) sum[n] = hn::Zero(d);
  for (int64_t c = 0; c < head.shape.key_dim; ++c) {
    const char* const row = PackedRow<kType>(head.shape, head.state, c);
    const auto weight = hn::Set(d, query.decayed[c] * PackedScale<kType>(head.state, c));
    for (int n = 0; n < kVectors; ++n) {
      sum[n] = hn::MulAdd(weight, LoadPacked<kType>(row, column + n * lanes), sum[n]);
    }
  }
  for (int64_t j = 0; j < head.held; ++j) {
    const float* const values = head.state.values + j * value_dim + column;
    const auto score = hn::Set(d, query.scores[j]);
    for (int n = 0; n < kVectors; ++n) {
      sum[n] = hn::MulAdd(score, hn::LoadU(d, values + n * lanes), sum[n]);
    }
  }
  const auto own = hn::Set(d, query.own);
  for (int n = 0; n < kVectors; ++n) {
    const int64_t at = column + n * lanes;
    if (head.shape.value_gate) sum[n] = hn::Mul(sum[n], hn::LoadU(d, head.values.read + at));
    hn::StoreU(hn::MulAdd(own, hn::LoadU(d, head.v + at), sum[n]), d, out + at);
  }
}

template <StateType kType>
void ReadHead(const ReplayHead& head) {
  const int64_t lanes = FloatLanes();
  const int64_t value_dim = head.shape.value_dim;
  ReplayQuery query;
  for (int64_t h = 0; h < head.shape.heads / head.shape.kv_heads; ++h) {
    MakeQuery(head, head.q + h * head.shape.key_dim, query);
    float* const out = head.out + h * value_dim;
    int64_t column = 0;
    for (; column + 4 * lanes <= value_dim; column += 4 * lanes) {
      ReadColumns<kType, 4>(head, query, column, out);
    }
    for (; column < value_dim; column += lanes) ReadColumns<kType, 1>(head, query, column, out);
  }
}

template <StateType kType>
void FoldToken(const ReplayHead& head) {
  const HeadFold fold = {.state = head.state,
                         .held = head.held,
                         .decay = head.keys.decay,
                         .value_decay = head.shape.value_gate ? head.values.decay : nullptr,
                         .key = head.key,
                         .value = head.v};
  HWY_ALIGN float row[kMaxGatedValueDim];
  for (int64_t c = 0; c < head.shape.key_dim; ++c) {
    FoldRow<kType>(head.shape, fold, c, row);
    PackRow<kType>(head.shape, row, c, head.state);
  }
  EmptyRing(head.shape, head.state);
}

// to = from exp(-sum).
HWY_INLINE void GrowBack(const float* from, const float* sum, int64_t count, float* to) {
  const Floats d;
  for (int64_t i = 0; i < count; i += FloatLanes()) {
    const auto growth = hn::Exp(d, hn::Neg(hn::LoadU(d, sum + i)));
    hn::StoreU(hn::Mul(hn::LoadU(d, from + i), growth), d, to + i);
  }
}

void HoldToken(const ReplayHead& head) {
  const int64_t key_dim = head.shape.key_dim;
  const int64_t value_dim = head.shape.value_dim;
  const HeadState& state = head.state;
  GrowBack(head.key, head.keys.sum, key_dim, state.keys + head.held * key_dim);
  std::memcpy(state.log_decay, head.keys.sum, key_dim * sizeof(float));
  float* const value = state.values + head.held * value_dim;
  if (head.shape.value_gate) {
    GrowBack(head.v, head.values.sum, value_dim, value);
    std::memcpy(state.value_log_decay, head.values.sum, value_dim * sizeof(float));
  } else {
    std::memcpy(value, head.v, value_dim * sizeof(float));
  }
  const auto count = static_cast<int32_t>(head.held + 1);
  std::memcpy(state.count, &count, sizeof(count));
}

// Decays and key of the token, and whether the ring ends with it.
void MakeHead(const GatedStepArgs& args, int64_t row, int64_t kv_head, ReplayHead& head) {
  const Floats d;
  const GatedShape& shape = args.shape;
  const GatedOperands& op = args.operands;
  const bool has_ring = shape.state.ring > 0;
  const int64_t index = row * shape.kv_heads + kv_head;
  const float* const k = static_cast<const float*>(op.k) + row * op.k_stride +
                         kv_head / shape.shared_keys * shape.key_dim;
  const auto scale = hn::Set(d, op.input_scale == nullptr ? 1.0F : op.input_scale[index]);
  for (int64_t c = 0; c < shape.key_dim; c += FloatLanes()) {
    hn::StoreU(hn::Mul(hn::LoadU(d, k + c), scale), d, head.key + c);
  }
  head.held = HeldOf(shape, head.state);
  const GateView gate = ViewGate(shape, op, row, kv_head);
  bool passes = head.keys.Add(
      has_ring ? head.state.log_decay : nullptr,
      [&](int64_t c) HWY_ATTR { return LogDecays(gate, 0, c); }, shape.key_dim, shape.read);
  if (shape.value_gate) {
    const float* const value_gate = op.value_log_decay + index * shape.value_dim;
    passes |= head.values.Add(
        has_ring ? head.state.value_log_decay : nullptr,
        [&](int64_t v) HWY_ATTR { return hn::LoadU(Floats(), value_gate + v); }, shape.value_dim,
        shape.read);
  }
  head.folds = passes || head.held >= shape.state.Held();
}

void ReplayRow(const GatedStepArgs& args, int64_t row, int64_t kv_head) {
  const GatedShape& shape = args.shape;
  const GatedOperands& op = args.operands;
  const int64_t group = shape.heads / shape.kv_heads;
  float* const slot = op.states + args.slots[row] * op.slot_stride;
  ReplayHead head = {.shape = shape, .state = ViewHead(shape, slot, kv_head)};
  head.q = static_cast<const float*>(op.q) + row * op.q_stride +
           kv_head * group / shape.shared_keys * shape.key_dim;
  head.v = static_cast<const float*>(op.v) + row * op.v_stride + kv_head * shape.value_dim;
  head.bonus = op.bonus == nullptr ? nullptr : op.bonus + kv_head * shape.key_dim;
  head.out = static_cast<float*>(op.out) + (row * shape.heads + kv_head * group) * shape.value_dim;
  MakeHead(args, row, kv_head, head);
  WithStateType(shape.state.type, [&](auto type) {
    ReadHead<decltype(type)::value>(head);
    if (head.folds) FoldToken<decltype(type)::value>(head);
  });
  if (!head.folds) HoldToken(head);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(ReplayRow);

void GatedReplayCpu(const GatedStepArgs& args, ThreadPool& pool) {
  const int64_t heads = args.shape.kv_heads;
  const int64_t size = args.shape.StateSize() / heads;
  pool.Ranges(args.rows * heads, kElementGrain / size, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (FillsUp(args, i / heads, i % heads)) continue;
      HWY_DYNAMIC_DISPATCH(ReplayRow)(args, i / heads, i % heads);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
