#include "kernels/gated_step.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/gated_replay_cpu.h"
#include "kernels/gated_step_cpu.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gated_step_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gated_gate-inl.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// What multiplies the state and the values of a row, ready to use.
struct StepFactors {
  HWY_ALIGN float decay[kMaxGatedDim];
  HWY_ALIGN float key[kMaxGatedDim];               // if the input is scaled
  HWY_ALIGN float own[kMaxGatedDim];               // the key times the bonus, if read exclusively
  HWY_ALIGN float value_decay[kMaxGatedValueDim];  // if values are gated
};

// One state head of one row.
struct StepHead {
  int64_t key_dim;
  int64_t value_dim;
  int64_t group;  // query heads that read this state
  float scale;
  const float* q;  // [group, K]
  const float* k;
  const float* v;
  const float* decay;        // [K], no logarithm any more
  const float* own;          // [K]
  const float* value_decay;  // [V]
  float* state;              // [K, V]
  float* out;                // [group, V]
};

// Which of the factors there are, for inner loops that do not ask.
template <ReadKind kReadKind, bool kHasValueGate>
struct StepKind {
  static constexpr bool kExclusive = kReadKind == ReadKind::kExclusive;
  static constexpr bool kValueGate = kHasValueGate;
};

// Decays, adds and reads kVectors vectors of columns, for the first query head.
template <int kVectors, class Kind>
HWY_INLINE void StepColumns(const StepHead& head, int64_t column) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  FloatVec v[kVectors];
  FloatVec value_decay[kVectors];
  FloatVec out[kVectors];
  for (int n = 0; n < kVectors; ++n) {
    v[n] = hn::LoadU(d, head.v + column + n * lanes);
    if constexpr (Kind::kValueGate) {
      value_decay[n] = hn::LoadU(d, head.value_decay + column + n * lanes);
    }
    out[n] = hn::Zero(d);
  }
  float* state = head.state + column;
  for (int64_t c = 0; c < head.key_dim; ++c, state += head.value_dim) {
    const auto decay = hn::Set(d, head.decay[c]);
    const auto k = hn::Set(d, head.k[c]);
    const auto q = hn::Set(d, head.q[c]);
    for (int n = 0; n < kVectors; ++n) {
      const auto before = hn::LoadU(d, state + n * lanes);
      auto old = hn::Mul(before, decay);
      if constexpr (Kind::kValueGate) old = hn::Mul(old, value_decay[n]);
      const auto now = hn::MulAdd(k, v[n], old);
      hn::StoreU(now, d, state + n * lanes);
      auto read = now;
      if constexpr (Kind::kExclusive) read = hn::MulAdd(hn::Set(d, head.own[c]), v[n], before);
      out[n] = hn::MulAdd(q, read, out[n]);
    }
  }
  const auto scale = hn::Set(d, head.scale);
  for (int n = 0; n < kVectors; ++n) {
    hn::StoreU(hn::Mul(out[n], scale), d, head.out + column + n * lanes);
  }
}

// Reads the state as it is now for query head `h` of the group.
template <int kVectors, class Kind>
HWY_INLINE void ReadColumns(const StepHead& head, int64_t h, int64_t column) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  FloatVec out[kVectors];
  for (int n = 0; n < kVectors; ++n) out[n] = hn::Zero(d);
  const float* state = head.state + column;
  for (int64_t c = 0; c < head.key_dim; ++c, state += head.value_dim) {
    const auto q = hn::Set(d, head.q[h * head.key_dim + c]);
    for (int n = 0; n < kVectors; ++n) {
      auto read = hn::LoadU(d, state + n * lanes);
      if constexpr (Kind::kExclusive) {
        const auto v = hn::LoadU(d, head.v + column + n * lanes);
        read = hn::MulAdd(hn::Set(d, head.own[c]), v, read);
      }
      out[n] = hn::MulAdd(q, read, out[n]);
    }
  }
  const auto scale = hn::Set(d, head.scale);
  for (int n = 0; n < kVectors; ++n) {
    hn::StoreU(hn::Mul(out[n], scale), d, head.out + h * head.value_dim + column + n * lanes);
  }
}

template <int kVectors, class Kind>
HWY_INLINE void StepBlock(const StepHead& head, int64_t column) {
  if constexpr (!Kind::kExclusive) StepColumns<kVectors, Kind>(head, column);
  for (int64_t h = 1; h < head.group; ++h) ReadColumns<kVectors, Kind>(head, h, column);
  if constexpr (Kind::kExclusive) StepColumns<kVectors, Kind>(head, column);
}

// By value: what a store through the state's address cannot change stays in registers.
template <class Kind>
void StepRange(StepHead head, int64_t column, int64_t end) {
  const int64_t lanes = FloatLanes();
  for (; column + 4 * lanes <= end; column += 4 * lanes) StepBlock<4, Kind>(head, column);
  for (; column < end; column += lanes) StepBlock<1, Kind>(head, column);
}

using StepFunction = void (*)(StepHead head, int64_t column, int64_t end);

StepFunction StepOf(const GatedShape& shape) {
  constexpr ReadKind kInclusive = ReadKind::kInclusive;
  constexpr ReadKind kExclusive = ReadKind::kExclusive;
  if (shape.read == kExclusive) {
    return shape.value_gate ? StepRange<StepKind<kExclusive, true>>
                            : StepRange<StepKind<kExclusive, false>>;
  }
  return shape.value_gate ? StepRange<StepKind<kInclusive, true>>
                          : StepRange<StepKind<kInclusive, false>>;
}

// Fills in the factors that the shape and the operands ask for.
void MakeFactors(const GatedShape& shape, const GatedOperands& op, const StepTask& task,
                 int64_t row, const float* k, StepFactors& factors) {
  const Floats d;
  const int64_t head = row * shape.kv_heads + task.kv_head;
  const GateView gate = ViewGate(shape, op, row, task.kv_head);
  const auto scale = hn::Set(d, op.input_scale == nullptr ? 1.0F : op.input_scale[head]);
  const float* bonus = op.bonus == nullptr ? nullptr : op.bonus + task.kv_head * shape.key_dim;
  for (int64_t c = 0; c < shape.key_dim; c += FloatLanes()) {
    hn::StoreU(Decays(LogDecays(gate, 0, c)), d, factors.decay + c);
    if (op.input_scale == nullptr && shape.read == ReadKind::kInclusive) continue;
    const auto key = hn::Mul(hn::LoadU(d, k + c), scale);
    const auto weight = bonus == nullptr ? hn::Zero(d) : hn::LoadU(d, bonus + c);
    hn::StoreU(key, d, factors.key + c);
    hn::StoreU(hn::Mul(key, weight), d, factors.own + c);
  }
  if (!shape.value_gate) return;
  const float* value_gate = op.value_log_decay + head * shape.value_dim;
  for (int64_t c = task.column; c < task.column + task.columns; c += FloatLanes()) {
    hn::StoreU(Decays(hn::LoadU(d, value_gate + c)), d, factors.value_decay + c);
  }
}

void StepRows(const GatedShape& shape, const GatedOperands& op, const StepTask& task) {
  const int64_t key_dim = shape.key_dim;
  const int64_t value_dim = shape.value_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t query_head = task.kv_head * group / shape.shared_keys;
  const int64_t key_head = task.kv_head / shape.shared_keys;
  const StepFunction step = StepOf(shape);
  StepFactors factors;
  StepHead head = {
      .key_dim = key_dim,
      .value_dim = value_dim,
      .group = group,
      .scale = shape.scale,
      .decay = factors.decay,
      .own = factors.own,
      .value_decay = factors.value_decay,
      .state = op.states + task.slot * op.slot_stride + task.kv_head * key_dim * value_dim};
  for (int64_t row = task.row; row < task.row + task.rows; ++row) {
    const float* k = static_cast<const float*>(op.k) + row * op.k_stride + key_head * key_dim;
    MakeFactors(shape, op, task, row, k, factors);
    head.q = static_cast<const float*>(op.q) + row * op.q_stride + query_head * key_dim;
    head.k = op.input_scale == nullptr ? k : factors.key;
    head.v = static_cast<const float*>(op.v) + row * op.v_stride + task.kv_head * value_dim;
    head.out = static_cast<float*>(op.out) + (row * shape.heads + task.kv_head * group) * value_dim;
    step(head, task.column, task.column + task.columns);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(StepRows);

void RunStepTask(const GatedShape& shape, const GatedOperands& operands, const StepTask& task) {
  HWY_DYNAMIC_DISPATCH(StepRows)(shape, operands, task);
}

bool FillsUp(const GatedStepArgs& args, int64_t row, int64_t kv_head) {
  if (args.slots[row] != args.sink) return false;
  const GatedShape& s = args.shape;
  const int64_t group = s.heads / s.kv_heads;
  float* const out = static_cast<float*>(args.operands.out);
  std::fill_n(out + (row * s.heads + kv_head * group) * s.value_dim, group * s.value_dim, 0.0F);
  return true;
}

namespace {

// The step alone.
void StepCpu(const GatedStepArgs& args, ThreadPool& pool) {
  const GatedShape& shape = args.shape;
  if (!shape.state.IsPlain()) {
    GatedReplayCpu(args, pool);
    return;
  }
  const int64_t kv_heads = shape.kv_heads;
  const int64_t state = int64_t{shape.key_dim} * shape.value_dim;
  pool.Ranges(args.rows * kv_heads, kElementGrain / state, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / kv_heads;
      if (FillsUp(args, row, i % kv_heads)) continue;
      RunStepTask(shape, args.operands,
                  {args.slots[row], row, 1, i % kv_heads, 0, shape.value_dim});
    }
  });
}

}  // namespace

void GatedStepCpu(const GatedStepArgs& args, ThreadPool& pool) {
  CheckGatedStep(args);
  SLUICE_CHECK(args.shape.dtype == DType::kFloat32);
  if (args.log_gate != nullptr) LogGateCpu(*args.log_gate, pool);
  StepCpu(args, pool);
  if (args.norm != nullptr) NormCpu(*args.norm, pool);
}

}  // namespace sluice
#endif  // HWY_ONCE
