// Moves each channel of a row towards another row, by amounts of the channel and of the token.
// Makes several mixes of the same two rows at once.
//
//   y[i, r, c] = x[r, c] + delta[r, c] * (mu[i, c] + mix[i, r, c])
//
// With delta of token_shift.h: mixes of a token and the one before it. Computed in float32 and
// rounded once.
//
// Source: Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892), the data-dependent linear
// interpolation of section 4.
// Oracle: tests/kernels/lerp_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

constexpr int32_t kMaxLerps = 8;

struct LerpArgs {
  DType dtype;  // of x, delta, mix and y: float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t dim;         // D, multiple of 8
  const void* x;       // [rows, D], rows x_stride apart
  int64_t x_stride;    // in elements, >= D
  const void* delta;   // [rows, D], contiguous
  const float* mu;     // [count, D], or null for zeros
  const void* mix;     // [count, rows, D], rows mix_stride apart, or null for zeros
  int64_t mix_stride;  // in elements, >= D
  // [count, rows, D], rows y_stride apart. May be mix itself, with its stride and step; otherwise
  // it overlaps no input.
  void* y;
  int64_t y_stride;   // in elements, >= D
  int32_t count = 1;  // of mixes, 1..kMaxLerps
  // From one mix to the next, in elements, multiples of 8; of a single one they mean nothing.
  int64_t mix_step = 0;
  int64_t y_step = 0;
};

// Bytes that the op has to move.
inline int64_t LerpBytes(const LerpArgs& args) {
  const int64_t tensors = 2 + args.count * (args.mix == nullptr ? 1 : 2);
  return int64_t{args.rows} * args.dim * tensors * DTypeBytes(args.dtype);
}

// What every device checks; breaking it ends the process.
void CheckLerp(const LerpArgs& args);

}  // namespace sluice
