// GatedStepCuda for many heads of small K.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"

namespace sluice {

// Of plain states: whether several heads come to a block, since K is at most 128, each has one
// query head, and there are enough to fill the GPU nevertheless.
bool SharesBlocks(const GatedStepArgs& args);

// Where they do. The bits are those of a head a block.
void SmallStepCuda(const GatedStepArgs& args, cudaStream_t stream);

}  // namespace sluice
