// The gated unit of the MLP, over a product that holds gate and up side by side.
//
//   out[r, c] = silu(x[r, c]) * x[r, I + c]
//
// Source: Shazeer 2020, "GLU Variants Improve Transformer" (arXiv 2002.05202).
// Oracle: tests/kernels/gated_unit_ref.h.
#pragma once

#include <cstdint>

#include "kernels/dtype.h"

namespace sluice {

struct GatedUnitArgs {
  DType dtype;  // float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t dim;    // I, multiple of 8
  const void* x;  // [rows, 2 I]: gate, then up
  void* out;      // [rows, I]
};

// Bytes that the op has to move.
inline int64_t GatedUnitBytes(const GatedUnitArgs& args) {
  return int64_t{args.rows} * args.dim * 3 * DTypeBytes(args.dtype);
}

}  // namespace sluice
