// GatedStepCuda for states that are not float32 alone (state_format.h).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"

namespace sluice {

// `portable`: with no more shared memory than every GPU has, and no clusters.
void GatedReplayCuda(const GatedStepArgs& args, bool portable, cudaStream_t stream);

}  // namespace sluice
