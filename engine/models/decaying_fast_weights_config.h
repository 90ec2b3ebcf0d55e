// The keys of a config.json of model_type "decaying_fast_weights", our own.
#pragma once

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"

namespace sluice {

struct DecayingFastWeightsConfig {
  FlaTrunk trunk;
  FlaHeads heads;  // num_kv_heads is num_heads
};

// vocab_size, hidden_size, num_hidden_layers and num_heads must be there; the rest is as in
// ReadGlaConfig.
absl::StatusOr<DecayingFastWeightsConfig> ReadDecayingFastWeightsConfig(JsonReader& reader);

}  // namespace sluice
