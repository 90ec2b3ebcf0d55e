// The keys of a config.json of model_type "gated_rfa", our own.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"

namespace sluice {

struct GatedRfaConfig {
  FlaTrunk trunk;
  FlaHeads heads;        // num_kv_heads is num_heads
  int32_t num_features;  // random ones a head: multiple of 8, 8..256; default K
  float normalizer_eps;  // added to what outputs are divided by, 0..0.1; default 1e-6
};

// vocab_size, hidden_size, num_hidden_layers and num_heads must be there; the rest is as in
// ReadGlaConfig.
absl::StatusOr<GatedRfaConfig> ReadGatedRfaConfig(JsonReader& reader);

}  // namespace sluice
