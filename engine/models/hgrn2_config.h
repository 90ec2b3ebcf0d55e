// The keys of a config.json of model_type "hgrn2", as flash-linear-attention writes it.
//
// Source: HGRN2Config in fla/models/hgrn2/configuration_hgrn2.py, and what
// fla/models/hgrn2/modeling_hgrn2.py and fla/layers/hgrn2.py (0.6.0) make of it.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"

namespace sluice {

struct Hgrn2Config {
  FlaTrunk trunk;
  int32_t num_heads;        // 1..256
  int32_t head_k_dim;       // expand_ratio: multiple of 16, 16..512
  int32_t head_v_dim;       // hidden_size / num_heads, likewise
  FlaShortConv conv;        // on q, f and i, without bias and without activation
  bool use_lower_bound;     // of the forget gate; then num_heads * expand_ratio is hidden_size
  bool elementwise_affine;  // whether the norm of the output has a weight

  // Fixed in fla: norm_eps does not reach the norm of the output.
  float output_norm_eps = 1e-5F;

  int32_t ForgetDim() const { return num_heads * head_k_dim; }  // of q, f and k
};

// As ReadGlaConfig. A num_heads beside expand_ratio must agree with it, since fla's layer goes by
// expand_ratio alone.
absl::StatusOr<Hgrn2Config> ReadHgrn2Config(JsonReader& reader);

}  // namespace sluice
