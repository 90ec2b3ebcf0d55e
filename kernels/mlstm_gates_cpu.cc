#include "kernels/mlstm_gates.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/mlstm_gates_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/gate_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

using HeadVec = hn::Vec<EightFloats>;

// Loads and stores of the `count` heads of a vector, which may be fewer than its lanes.
struct Heads {
  int64_t first;
  int64_t count;

  HWY_INLINE HeadVec Load(const float* row) const {
    const EightFloats d;
    if (row == nullptr) return hn::Zero(d);
    if (count == static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, row + first);
    float lanes[8] = {};
    for (int64_t i = 0; i < count; ++i) lanes[i] = row[first + i];
    return hn::LoadU(d, lanes);
  }

  HWY_INLINE void Store(HeadVec values, float* row) const {
    const EightFloats d;
    if (count == static_cast<int64_t>(hn::Lanes(d))) {
      hn::StoreU(values, d, row + first);
      return;
    }
    float lanes[8];
    hn::StoreU(values, d, lanes);
    for (int64_t i = 0; i < count; ++i) row[first + i] = lanes[i];
  }
};

// Rows [begin, begin + length) of one sequence, whose slot's m is at `max`.
HWY_INLINE void GateRows(const MlstmGatesArgs& args, const Heads& heads, int64_t begin,
                         int64_t length, float* max) {
  const EightFloats d;
  const HeadVec input_bias = heads.Load(args.input_bias);
  const HeadVec forget_bias = heads.Load(args.forget_bias);
  HeadVec m = heads.Load(max);
  for (int64_t row = begin; row < begin + length; ++row) {
    const float* input = static_cast<const float*>(args.input) + row * args.input_stride;
    const float* forget = static_cast<const float*>(args.forget) + row * args.forget_stride;
    const HeadVec i = SoftCapped(d, hn::Add(heads.Load(input), input_bias), args.soft_cap);
    const HeadVec z = SoftCapped(d, hn::Add(heads.Load(forget), forget_bias), args.soft_cap);
    const HeadVec kept = hn::Sub(m, Log1pExp(d, hn::Neg(z)));  // f + m
    m = hn::Max(kept, i);
    heads.Store(hn::Sub(kept, m), args.log_decay + row * args.heads);
    heads.Store(hn::Exp(d, hn::Sub(i, m)), args.input_scale + row * args.heads);
    heads.Store(hn::Neg(m), args.log_floor + row * args.heads);
  }
  heads.Store(m, max);
}

void GateSequence(const MlstmGatesArgs& args, int64_t begin, int64_t length, float* max) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(EightFloats()));
  for (int64_t head = 0; head < args.heads; head += lanes) {
    GateRows(args, {head, std::min(lanes, args.heads - head)}, begin, length, max);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(GateSequence);

void MlstmGatesCpu(const MlstmGatesArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckMlstmGates(args);
  pool.Ranges(args.decode_rows, 1024 / args.heads, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      HWY_DYNAMIC_DISPATCH(GateSequence)
      (args, row, 1, args.max + args.slots[row] * args.slot_stride);
    }
  });
  pool.Run(args.segment_count, [&](int64_t s, int32_t /*thread*/) {
    const Segment& segment = args.segments[s];
    HWY_DYNAMIC_DISPATCH(GateSequence)
    (args, segment.row, segment.length, args.max + segment.slot * args.slot_stride);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
