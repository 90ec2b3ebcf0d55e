// The keys of a config.json of model_type "mamba2", as transformers or fla writes it.
//
// Source: Mamba2Config in transformers (5.23) and in fla/models/mamba2 (0.6.0), and what
// fla/layers/mamba2.py makes of it.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/mamba_keys.h"

namespace sluice {

struct Mamba2Config {
  MambaTrunk trunk;
  int32_t num_heads;   // H = D / P: 1..256
  int32_t head_dim;    // P: multiple of 16, 16..512
  int32_t n_groups;    // G, heads that share their B and C: divides H
  int32_t state_size;  // N: multiple of 16, 16..512
  float dt_min;        // limits of the step sizes: 0 <= dt_min <= dt_max, which may be infinite
  float dt_max;

  // Keys of fla alone; in files of transformers they mean nothing, and these are true, false,
  // false.
  bool rmsnorm;           // whether the output is normed before it is projected
  bool norm_before_gate;  // norm(y) * silu(z) instead of norm(y * silu(z))
  bool skip_per_channel;  // D_has_hdim: the skip has a weight a channel instead of one a head
};

// Reads every key that changes the function; absent ones have the default of the file's format (see
// mamba_keys.h). The caller reads the keys that all models share and then asks `reader` to Finish.
absl::StatusOr<Mamba2Config> ReadMamba2Config(JsonReader& reader);

}  // namespace sluice
