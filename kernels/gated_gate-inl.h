// Decays from their logarithms, for the CPU's forms of gated linear attention. Included once per
// instruction set, as Highway's own -inl.h.
//
// NOLINTBEGIN(bugprone-macro-parentheses)
#if defined(SLUICE_KERNELS_GATED_GATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_GATED_GATE_INL_H_
#undef SLUICE_KERNELS_GATED_GATE_INL_H_
#else
#define SLUICE_KERNELS_GATED_GATE_INL_H_
#endif
// NOLINTEND(bugprone-macro-parentheses)

#include <cstdint>

#include "hwy/highway.h"
#include "kernels/gated_shape.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// The log decays of row `row` of the view in a vector of channels from `channel` on.
HWY_INLINE FloatVec LogDecays(const GateView& gate, int64_t row, int64_t channel) {
  const Floats d;
  if (gate.first == nullptr) return hn::Zero(d);
  const float* at = gate.first + row * gate.row_stride;
  return gate.channel_stride == 0 ? hn::Set(d, *at) : hn::LoadU(d, at + channel);
}

// Exp takes no infinity; what it makes of -128 is zero as well.
HWY_INLINE FloatVec Decays(FloatVec log_decays) {
  const Floats d;
  return hn::Exp(d, hn::Max(log_decays, hn::Set(d, -128.0F)));
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
