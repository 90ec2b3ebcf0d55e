// Empties the rings of some slots into their matrices (state_format.h): for who copies a slot next,
// or wants its state to be one that can be read without its ring.
//
// A head whose ring is empty keeps its bits. Formats without a ring have nothing to fold.
//
// Oracle: tests/kernels/replay_ref.h.
#pragma once

#include <cstdint>

#include "kernels/gated_shape.h"

namespace sluice {

struct FoldStatesArgs {
  GatedShape shape;
  int32_t count;         // of slots, >= 0
  const int32_t* slots;  // [count], distinct
  float* states;         // as in GatedOperands
  int64_t slot_stride;   // in units of 4 bytes, >= StateFloats of the shape
};

// What every device checks; breaking it ends the process.
void CheckFoldStates(const FoldStatesArgs& args);

}  // namespace sluice
