// The elementwise functions of activation.h in a kernel.
#pragma once

#include "kernels/activation.h"

namespace sluice {

__device__ inline float Sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }
__device__ inline float Silu(float x) { return x / (1.0F + expf(-x)); }

// `act` is the same for all threads of a launch.
__device__ inline float Activated(Activation act, float x) {
  switch (act) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return fmaxf(x, 0.0F);
    case Activation::kSilu:
      return Silu(x);
    case Activation::kSigmoid:
      return Sigmoid(x);
    case Activation::kElu1:
      return x > 0.0F ? x + 1.0F : expf(x);
    case Activation::kSquareRelu:
      return fmaxf(x, 0.0F) * fmaxf(x, 0.0F);
    case Activation::kGelu:
      return 0.5F * x * (1.0F + tanhf(0.7978845608F * (x + 0.044715F * x * x * x)));
  }
  return x;
}

}  // namespace sluice
