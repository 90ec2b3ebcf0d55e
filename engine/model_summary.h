// What a model directory holds, without loading it: from its config.json, and from the headers of
// its checkpoint if there is one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/architecture.h"
#include "engine/engine_config.h"
#include "engine/model_config.h"
#include "engine/weight_loader.h"

namespace sluice {

struct ModelSummary {
  ModelConfig config;
  std::string gate;
  StateShape state_shape;
  std::vector<StatePart> layer_state;
  std::vector<WeightPart> tensors;  // that such a checkpoint holds
  int64_t parameters;
  std::string weight_dtype;
  int64_t weight_bytes;  // on the device
  int64_t slot_bytes;
  std::string device;
  int64_t free_bytes;  // of the device
  int32_t slots;       // that fit, at most kMaxStateSlots
  // NotFound without a checkpoint; otherwise the first tensor that is missing or has another shape,
  // or that the model has no place for.
  absl::Status checkpoint;
};

// Looks at config.model_dir, device, dtype, weight_type, threads, max_step_tokens and
// memory_fraction. The errors of ReadModelConfig and OpenDevice.
absl::StatusOr<ModelSummary> SummarizeModel(const EngineConfig& config);

}  // namespace sluice
