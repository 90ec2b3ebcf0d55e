// The elementwise functions of activation.h in a kernel.
#pragma once

#include <type_traits>

#include "kernels/activation.h"
#include "kernels/pack.cuh"

namespace sluice {

// Quotients to 2 units of the last place, where a kernel has no time for the last one. By infinity
// it is 0.
__device__ inline float Sigmoid(float x) { return __fdividef(1.0F, 1.0F + expf(-x)); }
__device__ inline float Silu(float x) { return __fdividef(x, 1.0F + expf(-x)); }

// log(1 + x) for x in [0, 1], to a few units of its last place, however small: twice the area
// hyperbolic tangent of x / (2 + x), by its series up to the 13th power.
__device__ inline float Log1pOfFraction(float x) {
  const float s = __fdividef(x, 2.0F + x);
  const float square = s * s;
  float sum = 1.0F / 13;
  sum = fmaf(sum, square, 1.0F / 11);
  sum = fmaf(sum, square, 1.0F / 9);
  sum = fmaf(sum, square, 1.0F / 7);
  sum = fmaf(sum, square, 1.0F / 5);
  sum = fmaf(sum, square, 1.0F / 3);
  return 2.0F * fmaf(sum * square, s, s);
}
__device__ inline float LogSigmoid(float x) {
  return fminf(x, 0.0F) - Log1pOfFraction(expf(-fabsf(x)));
}

// `cap` is that of kSoftCap.
template <Activation kAct>
__device__ inline float Activated(float x, float cap = 1.0F) {
  if constexpr (kAct == Activation::kNone) {
    return x;
  } else if constexpr (kAct == Activation::kRelu) {
    return fmaxf(x, 0.0F);
  } else if constexpr (kAct == Activation::kSilu) {
    return Silu(x);
  } else if constexpr (kAct == Activation::kSigmoid) {
    return Sigmoid(x);
  } else if constexpr (kAct == Activation::kElu1) {
    return x > 0.0F ? x + 1.0F : expf(x);
  } else if constexpr (kAct == Activation::kSquareRelu) {
    return fmaxf(x, 0.0F) * fmaxf(x, 0.0F);
  } else if constexpr (kAct == Activation::kGelu) {
    return 0.5F * x * (1.0F + tanhf(0.7978845608F * (x + 0.044715F * x * x * x)));
  } else if constexpr (kAct == Activation::kTanh) {
    return tanhf(x);
  } else if constexpr (kAct == Activation::kLogSigmoid) {
    return LogSigmoid(x);
  } else {
    static_assert(kAct == Activation::kSoftCap);
    return cap * tanhf(x / cap);
  }
}

template <Activation kAct>
using ActivationConstant = std::integral_constant<Activation, kAct>;

// Calls body(ActivationConstant<act>()). `act` is the same for all threads of a launch.
template <typename Body>
__device__ inline void WithActivation(Activation act, const Body& body) {
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

__device__ inline float Activated(Activation act, float x, float cap = 1.0F) {
  WithActivation(act, [&](auto constant) { x = Activated<decltype(constant)::value>(x, cap); });
  return x;
}

__device__ inline Pack Activated(Activation act, Pack x, float cap = 1.0F) {
  WithActivation(act, [&](auto constant) {
#pragma unroll
    for (float& value : x.v) value = Activated<decltype(constant)::value>(value, cap);
  });
  return x;
}

}  // namespace sluice
