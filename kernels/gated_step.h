// Recurrent form of gated linear attention: one token for each of many sequences.
//
// The recurrence of gated_shape.h, as it stands there. Row r's state is updated in place in slot
// slots[r]. A row gives the same bits whatever the other rows are and whichever slot it has. Bound
// by state traffic: the state is read once and written once, or with a ring once in as many tokens
// as the ring has (state_format.h).
//
// A step may have parts of its layer before and after it, other ops, to whose bits nothing changes:
// how the log decays are made, and a norm of what is put out. On a GPU they may come in the step's
// own launch (gated_step_fused.cu, gated_replay.cu).
//
// Source: Yang et al. 2023 (arXiv 2312.06635), equation 3; exclusive reads and the bonus: Peng et
// al. 2024 (arXiv 2404.05892), section 4.
// Oracles: tests/kernels/gated_ref.h; of states that are rounded, tests/kernels/replay_ref.h.
#pragma once

#include <cstdint>

#include "kernels/gated_shape.h"
#include "kernels/log_gate.h"
#include "kernels/norm.h"

namespace sluice {

struct GatedStepArgs {
  GatedShape shape;
  int32_t rows;          // B >= 0
  const int32_t* slots;  // [B], distinct but for the sink
  GatedOperands operands;
  // Rows of this slot, that only fill up a batch, have no state: their outputs are 0. -1: none.
  int32_t sink = -1;
  // What makes operands.log_decay, of a vector gate, from the same rows first. That may be left
  // unwritten. Null: it is there.
  const LogGateArgs* log_gate = nullptr;
  // What is done to operands.out, its x, afterwards, for the same rows. Of that, what y does not
  // cover may be left unwritten; y is none of what else the step and its log_gate read. Null:
  // nothing.
  const NormArgs* norm = nullptr;
};

// Ends the process unless the limits stated above are kept, but for those of the parts' own.
void CheckGatedStep(const GatedStepArgs& args);

// Bytes of one state that a step has to move: the matrix read and written. With a ring of L it is
// written in one step of L; beside it are the tokens held, averaged over these steps, and the sums
// of gates, read and written.
inline int64_t StateStepBytes(const GatedShape& s) {
  const int64_t matrix = s.Parts().counts * 4;
  if (s.state.ring <= 1) return 2 * matrix;
  const int64_t ring = s.state.ring;
  const int64_t token = int64_t{s.kv_heads} * (s.key_dim + s.value_dim) * 4;
  const int64_t sums = int64_t{s.kv_heads} * (s.key_dim + (s.value_gate ? s.value_dim : 0)) * 4;
  const int64_t held = ring * (ring - 1) / 2;  // read in all steps together
  return matrix + (matrix + (held + ring - 1) * token) / ring + 2 * sums;
}

// Bytes that the op has to move, with its parts: log decays that it makes need not be moved, and
// the norm's results are what is put out.
inline int64_t GatedStepBytes(const GatedStepArgs& args) {
  const GatedShape& s = args.shape;
  int64_t row = StateStepBytes(s) + GatedRowBytes(s, args.operands.input_scale != nullptr);
  int64_t weights = 0;
  if (args.log_gate != nullptr) {
    row += args.log_gate->rank * DTypeBytes(s.dtype) - s.GateCols() * 4;
    weights = s.GateCols() * (args.log_gate->rank + 1) * 4;
  }
  if (args.norm != nullptr) {
    const NormArgs& norm = *args.norm;
    const int64_t width = int64_t{s.heads} * s.value_dim;
    if (norm.gate != nullptr) row += width * DTypeBytes(s.dtype);
    const int64_t channels = norm.wide_weight ? width : norm.dim;
    if (norm.weight != nullptr) weights += channels * 4;
    if (norm.bias != nullptr) weights += channels * 4;
  }
  return args.rows * row + weights;
}

}  // namespace sluice
