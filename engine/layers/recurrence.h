// The gated recurrence over a batch: decode rows one token each, segments chunkwise.
#pragma once

#include <cstdint>

#include "engine/batch.h"
#include "engine/layers/compute.h"
#include "kernels/gated_shape.h"
#include "kernels/log_gate.h"
#include "kernels/norm.h"

namespace sluice {

// The prologue and the epilogue that a layer may have around its recurrence, for all rows of the
// batch: as GatedStepArgs has them, which is where they are done if all rows are decode rows.
struct RecurrenceEnds {
  const LogGateArgs* log_gate = nullptr;
  const NormArgs* norm = nullptr;
};

// `operands` are indexed by batch row. `workspace`: Device::GatedChunkWorkspaceBytes of the batch's
// segments and chunks.
void RunRecurrence(const Compute& compute, const GatedShape& shape, const BatchView& batch,
                   const GatedOperands& operands, void* workspace, const RecurrenceEnds& ends = {});

}  // namespace sluice
