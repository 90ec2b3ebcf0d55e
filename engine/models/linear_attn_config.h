// The keys of a config.json of model_type "linear_attn", as flash-linear-attention writes it.
//
// Source: LinearAttentionConfig in fla/models/linear_attn/configuration_linear_attn.py, and what
// fla/models/linear_attn/modeling_linear_attn.py and fla/layers/linear_attn.py (0.6.0) make of it.
#pragma once

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/layers/feature_map_spec.h"
#include "engine/models/fla_keys.h"

namespace sluice {

struct LinearAttnConfig {
  FlaTrunk trunk;
  FlaHeads heads;
  FeatureMapName feature_map;  // of q and k; at most 512 features a head
  bool tie_feature_map_qk;     // one learned map for both
  bool norm_q;                 // queries are divided by the sum of their features
  bool norm_k;                 // keys likewise
  bool norm_feature_map;       // outputs are divided by q . n, n the sum of all keys so far
  bool elementwise_affine;     // whether the norm of a head's output has a weight

  FeatureMapSpec Map() const { return {feature_map, heads.head_k_dim}; }
};

// As ReadGlaConfig.
absl::StatusOr<LinearAttnConfig> ReadLinearAttnConfig(JsonReader& reader);

}  // namespace sluice
