// GatedStepCuda with the parts of a step that its kernel does itself.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"
#include "kernels/gated_step_fusion.h"

namespace sluice {

// Of a plain state: where there are so few blocks that a launch would take longer. `portable`: with
// no clusters.
StepFusion PlainFusionOf(const GatedStepArgs& args, bool portable);

// At least one of them.
void FusedStepCuda(const GatedStepArgs& args, const StepFusion& fusion, cudaStream_t stream);

}  // namespace sluice
