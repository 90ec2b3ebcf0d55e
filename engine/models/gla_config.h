// The keys of a config.json of model_type "gla", as flash-linear-attention writes it.
//
// Source: GLAConfig in fla/models/gla/configuration_gla.py, and what fla/layers/gla.py and
// fla/modules/mlp.py (0.6.0) make of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"
#include "kernels/activation.h"

namespace sluice {

struct GlaConfig {
  FlaTrunk trunk;
  FlaHeads heads;
  FlaShortConv conv;               // on q, k and v, with SiLU and without bias
  Activation feature_map;          // of q and k
  bool use_output_gate;            // swish(g_proj x), multiplied to the normed output
  std::string_view gate_norm;      // what the norm of a head's output is called
  bool elementwise_affine;         // whether the norm of a head's output has a weight
  std::optional<float> clamp_min;  // of the log gate: at most 0

  // Fixed in fla: no key of config.json reaches them.
  int32_t gate_low_rank_dim = 16;
  float gate_logit_normalizer = 16;
};

// Reads every key that changes the function; absent ones have fla's default. Keys that do not
// change it are ignored, those of other functions (hybrid layers, attention residuals, value gates,
// activations other than swish) are refused by name. The caller reads the keys that all models
// share and then asks `reader` to Finish.
absl::StatusOr<GlaConfig> ReadGlaConfig(JsonReader& reader);

}  // namespace sluice
