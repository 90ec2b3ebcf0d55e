// The device that an operator names.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine_config.h"
#include "kernels/device.h"

namespace sluice {

// Of config.device, threads, deterministic and weight_type. InvalidArgument for a name that is
// none; FailedPrecondition, with the reason, if the GPU cannot be used.
absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const EngineConfig& config);

}  // namespace sluice
