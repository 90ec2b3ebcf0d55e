// Elementwise functions, and the op that applies one in place: feature maps of q and k, products
// with a bias, logits with a soft cap.
//
//   x[r, c] = act(x[r, c] + bias[c])
//
// Oracle: tests/kernels/activation_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

enum class Activation : uint8_t {
  kNone,        // x
  kRelu,        // max(x, 0)
  kSilu,        // x * sigmoid(x), also called swish
  kSigmoid,     // 1 / (1 + exp(-x))
  kElu1,        // x > 0 ? x + 1 : exp(x), positive: the feature map of linear attention
  kSquareRelu,  // max(x, 0)^2
  kGelu,        // tanh form: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
  kTanh,        // tanh(x)
  kLogSigmoid,  // log(sigmoid(x)), without cancellation on either side of zero
  kSoftCap,     // cap * tanh(x / cap); of the op below alone
};

struct ActivationArgs {
  DType dtype;  // float32, or bfloat16 on CUDA
  Activation act;
  int32_t rows;
  int32_t cols;                 // multiple of 8; any of contiguous float32 rows, such as logits
  void* x;                      // [rows, cols], rows `stride` apart, read and written
  int64_t stride;               // in elements, >= cols
  const float* bias = nullptr;  // [cols], or null for zeros
  float cap = 0;                // of kSoftCap, > 0
};

// Bytes that the op has to move.
inline int64_t ActivationBytes(const ActivationArgs& args) {
  return int64_t{args.rows} * args.cols * 2 * DTypeBytes(args.dtype);
}

}  // namespace sluice
