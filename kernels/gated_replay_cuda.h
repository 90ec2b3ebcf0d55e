// GatedStepCuda for states that are not float32 alone (state_format.h).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"

namespace sluice {

void GatedReplayCuda(const GatedStepArgs& args, cudaStream_t stream);

}  // namespace sluice
