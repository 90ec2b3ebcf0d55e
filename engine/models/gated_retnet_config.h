// The keys of a config.json of model_type "gated_retnet", our own.
#pragma once

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"

namespace sluice {

struct GatedRetNetConfig {
  FlaTrunk trunk;
  FlaHeads heads;               // num_kv_heads is num_heads
  float gate_logit_normalizer;  // of the log decay, 0.01..1e6; default 16
  double rope_theta;            // base of the rotation, 1..1e9; default 10000
  bool elementwise_affine;      // whether the norm of a head's output has a weight; default false
};

// vocab_size, hidden_size, num_hidden_layers and num_heads must be there; the rest is as in
// ReadGlaConfig.
absl::StatusOr<GatedRetNetConfig> ReadGatedRetNetConfig(JsonReader& reader);

}  // namespace sluice
