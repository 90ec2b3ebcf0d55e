// Matrix products with weights stored as in a checkpoint, optionally added to what is there.
//
//   y[b, r, n] = sum_k x[b, r, k] * weight[b, n, k]  (+ y[b, r, n] if accumulate)
//
// for each b of a batch of products of one shape, most often one. Operands of the batch may be
// interleaved, as the heads of a row are, and may share x or the weight: its step is then 0.
//
// A float8 weight has a scale a row, a power of two (float8.h), and stands for the bfloat16 matrix
// of its numbers times their scales, which is exact: the product is that of this matrix, so that
// where it is computed in the same way it is the same, bit for bit.
//
// Accumulation is float32. On the CPU, x is float32; with a bfloat16 or float8 weight it is rounded
// to bfloat16 for the product, if the processor multiplies bfloat16. The result of a row may depend
// on the number of rows in its last bits, since the library picks its algorithm by shape, but not
// on a device that was asked to be batch invariant; it never depends on the other rows' values.
//
// On the GPU the weight may be read while ops queued before are still running, so no op may write
// it. A copy from the host, Copy and Zero may: what follows them waits.
//
// Oracle: tests/kernels/linear_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

struct LinearArgs {
  int32_t rows;        // M >= 0
  int32_t in_dim;      // K, multiple of 8; of 16 with a float8 weight, then at most 2^18
  int32_t out_dim;     // N, multiple of 8; any from 8 on if y is float32 and not accumulated, and
                       // the weight is not float8
  DType weight_dtype;  // float32, bfloat16 or float8
  DType x_dtype;       // CPU: float32; CUDA: the weight's, bfloat16 if that is float8
  DType y_dtype;       // float32, or bfloat16 on CUDA
  const void* x;       // [M, K], rows x_stride apart
  int64_t x_stride;    // in elements
  const void* weight;  // [N, K], contiguous
  void* y;             // [M, N], rows y_stride apart
  int64_t y_stride;
  bool accumulate = false;  // not with more than one product
  // Of a float8 weight, else null: [N], what FitFloat8Scale gives. Read as early as the weight, and
  // on CUDA 16-byte aligned.
  const float* weight_scale = nullptr;
  int32_t batch = 1;  // products, 1..65535; 1 with a float8 weight
  // From the operands of one product to those of the next, in elements, >= 0; of more than one
  // product, multiples of 8. No two results share a place.
  int64_t x_step = 0;
  int64_t weight_step = 0;
  int64_t y_step = 0;
};

// Bytes that the op has to move.
inline int64_t LinearBytes(const LinearArgs& args) {
  const int64_t m = args.rows;
  const int64_t n = args.out_dim;
  const int64_t k = args.in_dim;
  const int64_t inputs = args.x_step == 0 ? 1 : args.batch;
  const int64_t weights = args.weight_step == 0 ? 1 : args.batch;
  const int64_t scales = args.weight_dtype == DType::kFloat8 ? n : 0;
  return inputs * m * k * DTypeBytes(args.x_dtype) +
         weights * n * k * DTypeBytes(args.weight_dtype) + scales * 4 +
         args.batch * m * n * DTypeBytes(args.y_dtype) * (args.accumulate ? 2 : 1);
}

// What every device checks of a batch and of a float8 weight; breaking it ends the process.
void CheckLinearBatch(const LinearArgs& args);
void CheckFloat8Weight(const LinearArgs& args);

inline int64_t LinearFlops(const LinearArgs& args) {
  return 2 * int64_t{args.batch} * args.rows * args.in_dim * args.out_dim;
}

}  // namespace sluice
