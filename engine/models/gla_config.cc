#include "engine/models/gla_config.h"

#include <string>

#include "engine/models/activation_names.h"
#include "engine/models/fla_keys.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr FlaDefaults kDefaults = {.expand_k = 0.5};

// Keys that would make another function of GLA.
void RefuseOtherFunctions(JsonReader& reader) {
  RefuseFlaHybrids(reader);
  if (!reader.Bool("use_gk", true))
    reader.Refuse("use_gk", "GLA always has a gate on the key side");
  if (reader.Bool("use_gv", false)) reader.Refuse("use_gv", "GLA has no gate on the value side");
  ReadFlaMode(reader, "chunk");
}

}  // namespace

absl::StatusOr<GlaConfig> ReadGlaConfig(JsonReader& reader) {
  GlaConfig config = {};
  config.trunk = ReadFlaTrunk(reader, kDefaults);
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, kDefaults);
  config.conv = ReadFlaShortConv(reader);
  config.feature_map = ReadActivation(reader, "feature_map", ActivationNames::kFla);
  config.use_output_gate = reader.Bool("use_output_gate", true);
  config.gate_norm = ReadFlaGateNormName(reader, config.use_output_gate);
  config.elementwise_affine = ReadFlaAffine(reader);
  if (reader.Has("clamp_min")) {
    config.clamp_min = static_cast<float>(reader.Number("clamp_min", 0, -1e6, 0));
  }
  RefuseOtherFunctions(reader);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
