// Rotary position embedding of q or k, in place, of pairs a half of the head apart.
//
//   x[r, h, c]        <- x[r, h, c] cos(a) - x[r, h, c + K/2] sin(a)
//   x[r, h, c + K/2]  <- x[r, h, c] sin(a) + x[r, h, c + K/2] cos(a)
//   a = positions[r] * f[c],  f[c] = base^(-2 c / K),  0 <= c < K/2
//
// The frequency f is rounded to float32 at each step as fla rounds it: 2 c / K, the power, its
// inverse. So is a below position kRotaryRounded, where a model may have been trained: the angles
// there are fla's own. From there on a is the exact product, whereas fla's, rounded to float32, is
// off by 2^-8 at 2^17 and means nothing at 2^27. Sines and cosines are float32 everywhere; fla
// rounds them to the type of x.
//
// Source: Su et al. 2021, "RoFormer" (arXiv 2104.09864); fla/modules/rotary (0.6.0).
// Oracle: tests/kernels/rotary_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

constexpr int32_t kMaxRotaryDim = 512;
constexpr int32_t kRotaryRounded = 1 << 17;  // first position whose angles are not rounded

struct RotaryArgs {
  DType dtype;  // of x: float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t heads;
  int32_t dim;               // K, multiple of 16, 16..512
  double base;               // > 0
  const int32_t* positions;  // [rows], >= 0
  void* x;                   // [rows, heads, K], rows `stride` apart, read and written
  int64_t stride;            // in elements, >= heads * K
};

struct RotaryFrequencies {
  double base;
  int32_t dim;
  float f[kMaxRotaryDim / 2];
};

// Those of the calling thread's last call are kept, as all layers of a model share them.
const RotaryFrequencies& FindRotaryFrequencies(double base, int32_t dim);

// Bytes that the op has to move.
inline int64_t RotaryBytes(const RotaryArgs& args) {
  return int64_t{args.rows} * args.heads * args.dim * 2 * DTypeBytes(args.dtype);
}

}  // namespace sluice
