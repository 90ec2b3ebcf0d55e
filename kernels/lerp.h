// Moves each channel of a row towards another row, by amounts of the channel and of the token.
//
//   y[r, c] = x[r, c] + delta[r, c] * (mu[c] + mix[r, c])
//
// With delta of token_shift.h: a mix of a token and the one before it. Computed in float32 and
// rounded once.
//
// Source: Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892), the data-dependent linear
// interpolation of section 4.
// Oracle: tests/kernels/lerp_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

struct LerpArgs {
  DType dtype;  // of x, delta, mix and y: float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t dim;         // D, multiple of 8
  const void* x;       // [rows, D], rows x_stride apart
  int64_t x_stride;    // in elements, >= D
  const void* delta;   // [rows, D], contiguous
  const float* mu;     // [D], or null for zeros
  const void* mix;     // [rows, D], rows mix_stride apart, or null for zeros
  int64_t mix_stride;  // in elements, >= D
  void* y;             // [rows, D], rows y_stride apart; overlaps no input
  int64_t y_stride;    // in elements, >= D
};

// Bytes that the op has to move.
inline int64_t LerpBytes(const LerpArgs& args) {
  const int64_t tensors = args.mix == nullptr ? 3 : 4;
  return int64_t{args.rows} * args.dim * tensors * DTypeBytes(args.dtype);
}

}  // namespace sluice
