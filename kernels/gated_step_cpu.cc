#include "kernels/gated_step.h"

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gated_step_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// One state head of one row.
struct StepHead {
  int64_t key_dim;
  int64_t value_dim;
  int64_t group;  // query heads that read this state
  float scale;
  const float* q;  // [group, K]
  const float* k;
  const float* v;
  const float* decay;  // [K], no logarithm any more
  float* state;        // [K, V]
  float* out;          // [group, V]
};

// Decays, adds and reads kVectors vectors of columns, for the first query head.
template <int kVectors>
HWY_INLINE void StepColumns(const StepHead& head, int64_t column) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  FloatVec v[kVectors];
  FloatVec out[kVectors];
  for (int n = 0; n < kVectors; ++n) {
    v[n] = hn::LoadU(d, head.v + column + n * lanes);
    out[n] = hn::Zero(d);
  }
  float* state = head.state + column;
  for (int64_t c = 0; c < head.key_dim; ++c, state += head.value_dim) {
    const auto decay = hn::Set(d, head.decay[c]);
    const auto k = hn::Set(d, head.k[c]);
    const auto q = hn::Set(d, head.q[c]);
    for (int n = 0; n < kVectors; ++n) {
      const auto old = hn::Mul(hn::LoadU(d, state + n * lanes), decay);
      const auto now = hn::MulAdd(k, v[n], old);
      hn::StoreU(now, d, state + n * lanes);
      out[n] = hn::MulAdd(q, now, out[n]);
    }
  }
  const auto scale = hn::Set(d, head.scale);
  for (int n = 0; n < kVectors; ++n) {
    hn::StoreU(hn::Mul(out[n], scale), d, head.out + column + n * lanes);
  }
}

// Reads the state as it is now for query head `h` of the group.
template <int kVectors>
HWY_INLINE void ReadColumns(const StepHead& head, int64_t h, int64_t column) {
  const Floats d;
  const int64_t lanes = FloatLanes();
  FloatVec out[kVectors];
  for (int n = 0; n < kVectors; ++n) out[n] = hn::Zero(d);
  const float* state = head.state + column;
  for (int64_t c = 0; c < head.key_dim; ++c, state += head.value_dim) {
    const auto q = hn::Set(d, head.q[h * head.key_dim + c]);
    for (int n = 0; n < kVectors; ++n) {
      out[n] = hn::MulAdd(q, hn::LoadU(d, state + n * lanes), out[n]);
    }
  }
  const auto scale = hn::Set(d, head.scale);
  for (int n = 0; n < kVectors; ++n) {
    hn::StoreU(hn::Mul(out[n], scale), d, head.out + h * head.value_dim + column + n * lanes);
  }
}

template <int kVectors>
HWY_INLINE void StepBlock(const StepHead& head, int64_t column) {
  StepColumns<kVectors>(head, column);
  for (int64_t h = 1; h < head.group; ++h) ReadColumns<kVectors>(head, h, column);
}

// State head `kv_head` of row `row`.
void GatedStepHead(const GatedStepArgs& args, int64_t row, int64_t kv_head) {
  const GatedShape& shape = args.shape;
  const GatedOperands& op = args.operands;
  const int64_t key_dim = shape.key_dim;
  const int64_t value_dim = shape.value_dim;
  const int64_t group = shape.heads / shape.kv_heads;
  const float* gate = op.log_decay + (row * shape.kv_heads + kv_head) * key_dim;
  HWY_ALIGN float decay[kMaxGatedDim];
  ForVectors(key_dim, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Exp(d, hn::LoadU(d, gate + i)), d, decay + i);
  });
  const StepHead head = {
      .key_dim = key_dim,
      .value_dim = value_dim,
      .group = group,
      .scale = shape.scale,
      .q = static_cast<const float*>(op.q) + row * op.q_stride + kv_head * group * key_dim,
      .k = static_cast<const float*>(op.k) + row * op.k_stride + kv_head * key_dim,
      .v = static_cast<const float*>(op.v) + row * op.v_stride + kv_head * value_dim,
      .decay = decay,
      .state = op.states + args.slots[row] * op.slot_stride + kv_head * key_dim * value_dim,
      .out = static_cast<float*>(op.out) + (row * shape.heads + kv_head * group) * value_dim};
  const int64_t lanes = FloatLanes();
  int64_t column = 0;
  for (; column + 4 * lanes <= value_dim; column += 4 * lanes) StepBlock<4>(head, column);
  for (; column < value_dim; column += lanes) StepBlock<1>(head, column);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(GatedStepHead);

void GatedStepCpu(const GatedStepArgs& args, ThreadPool& pool) {
  CheckGatedOperands(args.shape, args.operands);
  SLUICE_CHECK(args.shape.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0);
  const int64_t kv_heads = args.shape.kv_heads;
  const int64_t state = int64_t{args.shape.key_dim} * args.shape.value_dim;
  pool.Ranges(args.rows * kv_heads, kElementGrain / state, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(GatedStepHead)(args, i / kv_heads, i % kv_heads);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
