// GatedStepCpu for states that are not float32 alone (state_format.h).
#pragma once

#include "kernels/gated_step.h"
#include "kernels/thread_pool.h"

namespace sluice {

void GatedReplayCpu(const GatedStepArgs& args, ThreadPool& pool);

}  // namespace sluice
