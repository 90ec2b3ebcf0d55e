#include "engine/models/gated_retnet_config.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<GatedRetNetConfig> ReadGatedRetNetConfig(JsonReader& reader) {
  GatedRetNetConfig config = {};
  RequireKeys(reader, kRequiredTrunkKeys);
  config.trunk = ReadFlaTrunk(reader, {});
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, {}, /*grouped=*/false);
  config.gate_logit_normalizer =
      static_cast<float>(reader.Number("gate_logit_normalizer", 16, 0.01, 1e6));
  config.rope_theta = reader.Number("rope_theta", 10000, 1, 1e9);
  config.elementwise_affine = ReadFlaAffine(reader, /*fallback=*/false);
  RefuseFlaHybrids(reader);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
