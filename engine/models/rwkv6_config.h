// The keys of a config.json of model_type "rwkv6", as flash-linear-attention writes it.
//
// Source: RWKV6Config in fla/models/rwkv6/configuration_rwkv6.py, and what fla/layers/rwkv6.py and
// fla/models/rwkv6/modeling_rwkv6.py (0.6.0) make of it.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/fla_keys.h"
#include "kernels/activation.h"

namespace sluice {

struct Rwkv6Config {
  FlaTrunk trunk;  // intermediate_size is that of the channel mix; norm_eps of every norm
  FlaHeads heads;  // as many of states as of queries
  int32_t proj_low_rank_dim;  // of each of the five token mixes: 1..4096
  int32_t gate_low_rank_dim;  // of the decay: 1..16384
  Activation hidden_act;      // of the channel mix
  bool norm_first;            // whether the embedding is normed before the first layer
  bool norm_bias;             // of the norms between layers; that of the heads always has one
};

// Reads every key that changes the function; absent ones have fla's default. Keys that do not
// change it are ignored, those of other functions are refused by name. The caller reads the keys
// that all models share and then asks `reader` to Finish.
absl::StatusOr<Rwkv6Config> ReadRwkv6Config(JsonReader& reader);

}  // namespace sluice
