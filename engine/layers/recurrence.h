// The gated recurrence over a batch: decode rows one token each, segments chunkwise.
#pragma once

#include <cstdint>

#include "engine/batch.h"
#include "engine/layers/compute.h"
#include "kernels/gated_shape.h"

namespace sluice {

// `operands` are indexed by batch row. `workspace`: Device::GatedChunkWorkspaceBytes of the batch's
// segments and chunks.
void RunRecurrence(const Compute& compute, const GatedShape& shape, const BatchView& batch,
                   const GatedOperands& operands, void* workspace);

}  // namespace sluice
