#include "engine/models/gated_rfa_config.h"

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "kernels/gated_shape.h"

namespace sluice {
namespace {

constexpr int32_t kMaxFeatures = kMaxGatedDim / 2;  // each is a sine and a cosine
constexpr int32_t kFeatureMultiple = 8;

int32_t ReadFeatures(JsonReader& reader, int32_t fallback) {
  const bool written = reader.Has("num_features");
  const auto features = static_cast<int32_t>(
      written ? reader.Int("num_features", kFeatureMultiple, kFeatureMultiple, kMaxFeatures)
              : fallback);
  if (features % kFeatureMultiple != 0 || features > kMaxFeatures) {
    reader.Refuse("num_features",
                  absl::StrCat("a head has ", features, " features; they must be a multiple of ",
                               kFeatureMultiple, " up to ", kMaxFeatures));
  }
  return features;
}

}  // namespace

absl::StatusOr<GatedRfaConfig> ReadGatedRfaConfig(JsonReader& reader) {
  GatedRfaConfig config = {};
  RequireKeys(reader, kRequiredTrunkKeys);
  config.trunk = ReadFlaTrunk(reader, {});
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, {}, /*grouped=*/false);
  config.num_features = ReadFeatures(reader, config.heads.head_k_dim);
  config.normalizer_eps = static_cast<float>(reader.Number("normalizer_eps", 1e-6, 0, 0.1));
  RefuseFlaHybrids(reader);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
