// Recurrent form of gated linear attention: one token for each of many sequences.
//
// The recurrence of gated_shape.h, as it stands there. Row r's state is updated in place in slot
// slots[r]. A row gives the same bits whatever the other rows are and whichever slot it has. Bound
// by state traffic: the state is read once and written once.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), equation 3; exclusive reads and the bonus: Peng et
// al. 2024 (arXiv 2404.05892), section 4.
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
  const int64_t row = GatedRowBytes(args.shape, args.operands.input_scale != nullptr);
  return args.rows * (2 * args.shape.StateSize() * 4 + row);
}

}  // namespace sluice
