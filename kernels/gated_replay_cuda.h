// GatedStepCuda for states that are not float32 alone (state_format.h).
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"
#include "kernels/gated_step_fusion.h"

namespace sluice {

// Of any other state.
StepFusion ReplayFusionOf(const GatedStepArgs& args);

// `fusion`: what of args' parts is done; the others are left. `portable`: with no more shared
// memory than every GPU has, and no clusters.
void GatedReplayCuda(const GatedStepArgs& args, const StepFusion& fusion, bool portable,
                     cudaStream_t stream);

}  // namespace sluice
