// One token after another on the CPU: what GatedStepCpu does to a row, and GatedChunkCpu to the
// rows of a segment whose values are gated.
#pragma once

#include <cstdint>

#include "kernels/gated_step.h"

namespace sluice {

// Some columns of one state head over neighbouring rows of one sequence.
struct StepTask {
  int64_t slot;
  int64_t row;   // the first
  int64_t rows;  // how many
  int64_t kv_head;
  int64_t column;   // multiple of 16
  int64_t columns;  // multiple of 16
};

void RunStepTask(const GatedShape& shape, const GatedOperands& operands, const StepTask& task);

// Whether the row has no state (GatedStepArgs::sink). If so its state head's outputs are zeroed.
bool FillsUp(const GatedStepArgs& args, int64_t row, int64_t kv_head);

}  // namespace sluice
