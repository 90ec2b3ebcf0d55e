#include "engine/models/decaying_fast_weights_config.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<DecayingFastWeightsConfig> ReadDecayingFastWeightsConfig(JsonReader& reader) {
  DecayingFastWeightsConfig config = {};
  RequireKeys(reader, kRequiredTrunkKeys);
  config.trunk = ReadFlaTrunk(reader, {});
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, {}, /*grouped=*/false);
  RefuseFlaHybrids(reader);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
