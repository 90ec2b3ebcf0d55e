// Root-mean-square norm or layer norm over the last dimension, with an optional weight, bias and
// gate.
//
//   norm(z)[d] = (z[d] - m) / sqrt(mean_d((z[d] - m)^2) + eps)   m = mean_d(z[d]) with center, or 0
//   y[r, :] = (norm(x[r, :]) * weight[:] + bias[:]) * act(gate[r, :])
//   y[r, :] = norm(x[r, :] * act(gate[r, :])) * weight[:] + bias[:]            with gate_first
//
// Serves the norms between layers (no gate, D = model dim), and the output norm of a mixer (one row
// a token and head, D = V, gate = the output gate's projection). Statistics and products are
// float32; the result is rounded once.
//
// On the GPU weight and bias may be read while ops queued before are still running, as those of
// linear.h.
//
// Source: Zhang & Sennrich 2019, "Root Mean Square Layer Normalization"; Ba et al. 2016, "Layer
// Normalization"; the gated form as in GLA, Yang et al. 2023 (arXiv 2312.06635), section 4.4; the
// gate before the norm as in Mamba-2, Dao & Gu 2024 (arXiv 2405.21060).
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
  int32_t dim;          // D of one group, multiple of 8, 8..32768
  float eps;            // > 0
  const void* x;        // [rows, groups * D], rows x_stride apart
  int64_t x_stride;     // in elements, >= groups * D
  const float* weight;  // [D], the same for every group, or null for ones
  Activation gate_act = Activation::kNone;  // applied to gate; any but kSoftCap
  const void* gate = nullptr;               // [rows, groups * D], rows gate_stride apart, or null
  int64_t gate_stride = 0;
  void* y;  // [rows, groups * D], rows y_stride apart; may be x
  int64_t y_stride;
  bool center = false;          // subtract the mean first: layer norm
  const float* bias = nullptr;  // as weight; null for zeros
  bool wide_weight = false;     // weight and bias are [groups * D], each group has its own
  bool gate_first = false;      // norm what the gate has been applied to
};

// Bytes that the op has to move.
inline int64_t NormBytes(const NormArgs& args) {
  const int64_t tensors = args.gate == nullptr ? 2 : 3;
  return int64_t{args.rows} * args.groups * args.dim * tensors * DTypeBytes(args.dtype);
}

}  // namespace sluice
