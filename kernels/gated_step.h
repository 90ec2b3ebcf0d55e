// Recurrent form of gated linear attention: one token for each of many sequences.
//
//   S_t = diag(exp(g_t)) S_{t-1} + k_t^T v_t        o_t = scale * q_t S_t
//
// Row r's state is updated in place in slot slots[r]. A row gives the same bits whatever the other
// rows are and whichever slot it has. Bound by state traffic: the state is read once and written
// once.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), equation 3.
// Oracle: tests/kernels/gated_ref.h.
#pragma once

#include <cstdint>

#include "kernels/gated_shape.h"

namespace sluice {

struct GatedStepArgs {
  GatedShape shape;
  int32_t rows;          // B >= 0
  const int32_t* slots;  // [B], distinct
  GatedOperands operands;
};

// Bytes that the op has to move.
inline int64_t GatedStepBytes(const GatedStepArgs& args) {
  const GatedShape& s = args.shape;
  const int64_t activations = (int64_t{s.heads} * (s.key_dim + s.value_dim) +
                               int64_t{s.kv_heads} * (s.key_dim + s.value_dim)) *
                                  DTypeBytes(s.dtype) +
                              int64_t{s.kv_heads} * s.key_dim * 4;
  return args.rows * (2 * s.StateSize() * 4 + activations);
}

}  // namespace sluice
