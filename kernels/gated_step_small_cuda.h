// GatedStepCuda for many heads of few rows.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"

namespace sluice {

// Whether several heads come to a block: plain states of up to 128 rows, one query head each, and
// enough of them to fill the GPU nevertheless.
bool SharesBlocks(const GatedStepArgs& args);

// Where they do. The bits are those of a head a block.
void SmallStepCuda(const GatedStepArgs& args, cudaStream_t stream);

}  // namespace sluice
