// The keys of a config.json of model_type "mamba", as transformers or fla writes it.
//
// Source: MambaConfig in transformers (5.23) and in fla/models/mamba (0.6.0).
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "engine/models/mamba_keys.h"

namespace sluice {

struct MambaConfig {
  MambaTrunk trunk;
  int32_t state_size;  // N: multiple of 8, 8..256
  int32_t dt_rank;     // R, of the step sizes: 1..16384
};

// Reads every key that changes the function; absent ones have the default of the file's format (see
// mamba_keys.h). The caller reads the keys that all models share and then asks `reader` to Finish.
absl::StatusOr<MambaConfig> ReadMambaConfig(JsonReader& reader);

}  // namespace sluice
