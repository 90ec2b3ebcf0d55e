// Vector pieces shared by the CPU ops. Included once per instruction set, as Highway's own -inl.h.
//
// NOLINTBEGIN(bugprone-macro-parentheses)
#if defined(SLUICE_KERNELS_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SLUICE_KERNELS_SIMD_INL_H_
#undef SLUICE_KERNELS_SIMD_INL_H_
#else
#define SLUICE_KERNELS_SIMD_INL_H_
#endif
// NOLINTEND(bugprone-macro-parentheses)

#include <cstdint>
#include <type_traits>

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "kernels/activation.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// As many floats as a register holds, 16 at most; and the 8 that every row length is a multiple of.
using Floats = hn::CappedTag<float, 16>;
using EightFloats = hn::CappedTag<float, 8>;
using FloatVec = hn::Vec<Floats>;

HWY_INLINE int64_t FloatLanes() { return static_cast<int64_t>(hn::Lanes(Floats())); }

// Calls body(d, i) for i over [0, count) in steps of d's lanes; `count` is a multiple of 8.
template <typename Body>
HWY_INLINE void ForVectors(int64_t count, const Body& body) {
  const Floats d;
  const EightFloats d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto lanes8 = static_cast<int64_t>(hn::Lanes(d8));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(d, i);
  for (; i < count; i += lanes8) body(d8, i);
}

// Sixteen bits of a bfloat16 are the upper ones of a float32.
template <class D>
HWY_INLINE hn::Vec<D> LoadBFloat16(D d, const uint16_t* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, from))));
}

// Rounds to nearest, ties to even.
template <class D>
HWY_INLINE void StoreBFloat16(D /*d*/, hn::Vec<D> v, uint16_t* to) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  const hn::Rebind<int32_t, D> di32;
  const auto bits = hn::BitCast(d32, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d32, 1));
  const auto rounded = hn::Add(bits, hn::Add(hn::Set(d32, 0x7FFF), odd));
  const auto upper = hn::ShiftRight<16>(rounded);
  hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di32, upper)), d16, to);
}

// 1 / (1 + exp(-x)) without overflow.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Sigmoid(D d, V x) {
  const V one = hn::Set(d, 1.0F);
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  const V numerator = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), e, one);
  return hn::Div(numerator, hn::Add(one, e));
}

// log(sigmoid(x)), without cancellation on either side of zero.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LogSigmoid(D d, V x) {
  const V e = hn::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Sub(hn::Min(x, hn::Zero(d)), hn::Log1p(d, e));
}

// `cap` is that of kSoftCap.
template <Activation kAct, class D, class V = hn::Vec<D>>
HWY_INLINE V Activated(D d, V x, [[maybe_unused]] float cap = 1.0F) {
  const V zero = hn::Zero(d);
  const V one = hn::Set(d, 1.0F);
  if constexpr (kAct == Activation::kNone) {
    return x;
  } else if constexpr (kAct == Activation::kRelu) {
    return hn::Max(x, zero);
  } else if constexpr (kAct == Activation::kSilu) {
    return hn::Mul(x, Sigmoid(d, x));
  } else if constexpr (kAct == Activation::kSigmoid) {
    return Sigmoid(d, x);
  } else if constexpr (kAct == Activation::kElu1) {
    const V negative = hn::Exp(d, hn::Min(x, zero));
    return hn::IfThenElse(hn::Gt(x, zero), hn::Add(x, one), negative);
  } else if constexpr (kAct == Activation::kSquareRelu) {
    const V positive = hn::Max(x, zero);
    return hn::Mul(positive, positive);
  } else if constexpr (kAct == Activation::kTanh) {
    return hn::Tanh(d, x);
  } else if constexpr (kAct == Activation::kLogSigmoid) {
    return LogSigmoid(d, x);
  } else if constexpr (kAct == Activation::kSoftCap) {
    const V caps = hn::Set(d, cap);
    return hn::Mul(caps, hn::Tanh(d, hn::Div(x, caps)));
  } else {
    static_assert(kAct == Activation::kGelu);
    // 0.5 (1 + tanh(u)) = sigmoid(2 u), here with 2 sqrt(2 / pi).
    const V cube = hn::Mul(hn::Mul(x, x), x);
    const V u = hn::MulAdd(cube, hn::Set(d, 0.044715F), x);
    return hn::Mul(x, Sigmoid(d, hn::Mul(u, hn::Set(d, 1.5957691216057308F))));
  }
}

template <Activation kAct>
using ActivationConstant = std::integral_constant<Activation, kAct>;

// Calls body(ActivationConstant<act>()).
template <typename Body>
HWY_INLINE void WithActivation(Activation act, const Body& body) {
  switch (act) {
    case Activation::kNone:
      return body(ActivationConstant<Activation::kNone>());
    case Activation::kRelu:
      return body(ActivationConstant<Activation::kRelu>());
    case Activation::kSilu:
      return body(ActivationConstant<Activation::kSilu>());
    case Activation::kSigmoid:
      return body(ActivationConstant<Activation::kSigmoid>());
    case Activation::kElu1:
      return body(ActivationConstant<Activation::kElu1>());
    case Activation::kSquareRelu:
      return body(ActivationConstant<Activation::kSquareRelu>());
    case Activation::kGelu:
      return body(ActivationConstant<Activation::kGelu>());
    case Activation::kTanh:
      return body(ActivationConstant<Activation::kTanh>());
    case Activation::kLogSigmoid:
      return body(ActivationConstant<Activation::kLogSigmoid>());
    case Activation::kSoftCap:
      return body(ActivationConstant<Activation::kSoftCap>());
  }
}

// Adds a vector's blocks of four lanes.
template <class V>
HWY_INLINE hn::Vec<hn::CappedTag<float, 4>> SumOfBlocks(V v) {
  using D = hn::DFromV<V>;
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    return SumOfBlocks(hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}

// Writes the sums of the lanes of four vectors, each added in the same fixed order.
HWY_INLINE void SumFour(const FloatVec* v, float* HWY_RESTRICT to) {
  const Floats d;
  const hn::RepartitionToWide<hn::RebindToUnsigned<Floats>> d64;
  const hn::CappedTag<float, 4> d4;
  // Within each block of four lanes: {v0 02, v1 02, v0 13, v1 13}, and the same of v2 and v3.
  const auto low = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const auto high = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto low64 = hn::BitCast(d64, low);
  const auto high64 = hn::BitCast(d64, high);
  const auto blocks = hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, low64, high64)),
                              hn::BitCast(d, hn::InterleaveUpper(d64, low64, high64)));
  hn::StoreU(SumOfBlocks(blocks), d4, to);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
