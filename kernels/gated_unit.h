// The gated unit of an MLP: what was projected up, times an activated gate.
//
//   out[r, c] = act(gate[r, c]) * up[r, c]   (+ out[r, c] with accumulate)
//
// Gate and up may be columns of one product, gate = product and up = product + I. With kNone, one
// row of up for all, and accumulate, it is a skip with one weight a channel. Computed in float32
// and rounded once.
//
// Source: Shazeer 2020, "GLU Variants Improve Transformer" (arXiv 2002.05202).
// Oracle: tests/kernels/gated_unit_ref.h.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/dtype.h"

namespace sluice {

struct GatedUnitArgs {
  DType dtype;  // of gate, up and out: float32, or bfloat16 on CUDA
  int32_t rows;
  int32_t dim;                         // I, multiple of 8
  Activation act = Activation::kSilu;  // any but kSoftCap
  const void* gate;                    // [rows, I], rows gate_stride apart
  int64_t gate_stride;                 // in elements, >= I
  const void* up;                      // [rows, I], rows up_stride apart, or null for ones
  int64_t up_stride;                   // 0: one row for all, the weights of channels
  void* out;                           // [rows, I], rows out_stride apart; may be gate or up
  int64_t out_stride;
  bool accumulate = false;  // add to what `out` holds
};

// Bytes that the op has to move.
inline int64_t GatedUnitBytes(const GatedUnitArgs& args) {
  const int64_t tensors = 2 + (args.up == nullptr ? 0 : 1) + (args.accumulate ? 1 : 0);
  return int64_t{args.rows} * args.dim * tensors * DTypeBytes(args.dtype);
}

}  // namespace sluice
