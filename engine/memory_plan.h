// How a device's memory is shared out between weights, buffers and states.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/engine_config.h"
#include "engine/model.h"
#include "kernels/device.h"

namespace sluice {

struct MemoryPlan {
  int32_t step_tokens;
  int32_t slots;
};

// For a model that was loaded or measured. As many slots as asked for, or, if none were, as many as
// fit up to the default. InvalidArgument if the steps are too short for the slots;
// ResourceExhausted with what is needed and what there is.
absl::StatusOr<MemoryPlan> PlanMemory(const EngineConfig& config, const Model& model,
                                      const Device& device, int64_t free_at_start);

// The most slots that can be asked for with `free_at_start` bytes; 0 if there is no room for one.
int32_t SlotsThatFit(const EngineConfig& config, const Model& model, const Device& device,
                     int64_t free_at_start);

}  // namespace sluice
