// Root-mean-square norm over the last dimension, with an optional weight and an optional gate.
//
//   y[r, :] = x[r, :] / sqrt(mean_d(x[r, d]^2) + eps) * weight[:] * act(gate[r, :])
//
// Serves the norms between layers (no gate, D = model dim), and the output norm of a mixer (one row
// a token and head, D = V, gate = the output gate's projection). Statistics and products are
// float32; the result is rounded once.
//
// Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"; the gated form as in GLA,
// Yang et al. 2023 (arXiv 2312.06635), section 4.4.
// Oracle: tests/kernels/norm_ref.h.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/dtype.h"

namespace sluice {

struct NormArgs {
  DType dtype;          // of x, gate and y: float32, or bfloat16 on CUDA
  int32_t rows;         // tokens
  int32_t groups = 1;   // norms a row: row r holds groups * dim numbers, each group normed alone
  int32_t dim;          // D of one group, multiple of 8, 8..16384
  float eps;            // > 0
  const void* x;        // [rows, groups * D], rows x_stride apart
  int64_t x_stride;     // in elements, >= groups * D
  const float* weight;  // [D], the same for every group, or null for ones
  Activation gate_act = Activation::kNone;  // applied to gate
  const void* gate = nullptr;               // [rows, groups * D], rows gate_stride apart, or null
  int64_t gate_stride = 0;
  void* y;  // [rows, groups * D], rows y_stride apart; may be x
  int64_t y_stride;
};

// Bytes that the op has to move.
inline int64_t NormBytes(const NormArgs& args) {
  const int64_t tensors = args.gate == nullptr ? 2 : 3;
  return int64_t{args.rows} * args.groups * args.dim * tensors * DTypeBytes(args.dtype);
}

}  // namespace sluice
