// Functions of gates in vectors, stable for every finite argument. Included once per instruction
// set, as Highway's own -inl.h.
//
// NOLINTBEGIN(bugprone-macro-parentheses)
#if defined(SLUICE_KERNELS_GATE_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_GATE_MATH_INL_H_
#undef SLUICE_KERNELS_GATE_MATH_INL_H_
#else
#define SLUICE_KERNELS_GATE_MATH_INL_H_
#endif
// NOLINTEND(bugprone-macro-parentheses)

#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// exp(x), infinity where that is too large; Highway's own is right below 176 only.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpOrInfinity(D d, V x) {
  return hn::Exp(d, hn::Min(x, hn::Set(d, 128.0F)));
}

// log(1 + exp(x)). That of -x, negated, is log(sigmoid(x)).
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Log1pExp(D d, V x) {
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Add(hn::Max(x, hn::Zero(d)), hn::Log1p(d, e));
}

// cap * tanh(x / cap), or x if `cap` is zero.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V SoftCapped(D d, V x, float cap) {
  if (cap == 0.0F) return x;
  const V limit = hn::Set(d, cap);
  return hn::Mul(limit, hn::Tanh(d, hn::Div(x, limit)));
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
