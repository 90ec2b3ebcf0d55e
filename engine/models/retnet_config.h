// The keys of a config.json of model_type "retnet", as flash-linear-attention writes it.
//
// Source: RetNetConfig in fla/models/retnet/configuration_retnet.py, and what
// fla/models/retnet/modeling_retnet.py and fla/layers/multiscale_retention.py (0.6.0) make of it.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"
#include "kernels/activation.h"

namespace sluice {

struct RetNetConfig {
  FlaTrunk trunk;
  FlaHeads heads;              // K at most 256
  Activation feature_map;      // of q and k, before they are rotated
  bool use_output_gate;        // swish(g_proj x), multiplied to the normed output
  std::string_view gate_norm;  // what the norm of a head's output is called
  bool elementwise_affine;     // whether that norm has a weight
};

// As ReadGlaConfig. use_short_conv and conv_size are ignored: fla reads them and passes them on to
// no layer, so that its RetNet has no convolution; a file with weights of one is refused for them.
absl::StatusOr<RetNetConfig> ReadRetNetConfig(JsonReader& reader);

}  // namespace sluice
