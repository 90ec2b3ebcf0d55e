// GatedStepCuda with the parts of a step that its kernel does itself.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/gated_step.h"

namespace sluice {

// Which of the parts that a step has: the bits are the same either way.
struct StepFusion {
  bool log_gate;
  bool norm;
};
StepFusion FusionOf(const GatedStepArgs& args);

// At least one of them.
void FusedStepCuda(const GatedStepArgs& args, const StepFusion& fusion, cudaStream_t stream);

}  // namespace sluice
