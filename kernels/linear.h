// Matrix product with a weight stored as in a checkpoint, optionally added to what is there.
//
//   y[r, n] = sum_k x[r, k] * weight[n, k]  (+ y[r, n] if accumulate)
//
// Accumulation is float32. On the CPU, x is float32; with a bfloat16 weight it is rounded to
// bfloat16 for the product, if the processor multiplies bfloat16. The result of a row may depend on
// the number of rows in its last bits, since the library picks its algorithm by shape; it never
// depends on the other rows' values.
//
// Oracle: tests/kernels/linear_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

struct LinearArgs {
  int32_t rows;        // M >= 0
  int32_t in_dim;      // K, multiple of 8
  int32_t out_dim;     // N, multiple of 8; any from 8 on if y is float32 and not accumulated
  DType weight_dtype;  // float32 or bfloat16
  DType x_dtype;       // float32, or bfloat16 on CUDA (then equal to weight_dtype)
  DType y_dtype;       // float32, or bfloat16 on CUDA
  const void* x;       // [M, K], rows x_stride apart
  int64_t x_stride;    // in elements
  const void* weight;  // [N, K], contiguous
  void* y;             // [M, N], rows y_stride apart
  int64_t y_stride;
  bool accumulate = false;
};

// Bytes that the op has to move.
inline int64_t LinearBytes(const LinearArgs& args) {
  const int64_t m = args.rows;
  const int64_t n = args.out_dim;
  const int64_t k = args.in_dim;
  return m * k * DTypeBytes(args.x_dtype) + n * k * DTypeBytes(args.weight_dtype) +
         m * n * DTypeBytes(args.y_dtype) * (args.accumulate ? 2 : 1);
}

inline int64_t LinearFlops(const LinearArgs& args) {
  return 2 * int64_t{args.rows} * args.in_dim * args.out_dim;
}

}  // namespace sluice
