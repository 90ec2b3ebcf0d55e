#include "engine/models/linear_attn_config.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "kernels/gated_shape.h"

namespace sluice {
namespace {

struct NamedFeatureMap {
  const char* name;
  FeatureMapName map;
};

constexpr std::array<NamedFeatureMap, 7> kFeatureMaps = {{
    {"dpfp", FeatureMapName::kDpfp},
    {"elementwise_product", FeatureMapName::kElementwise},
    {"elu", FeatureMapName::kElu},
    {"hedgehog", FeatureMapName::kHedgehog},
    {"identity", FeatureMapName::kIdentity},
    {"relu", FeatureMapName::kRelu},
    {"t2r", FeatureMapName::kT2r},
}};

FeatureMapName ReadFeatureMap(JsonReader& reader) {
  const std::string name = reader.String("feature_map", "elementwise_product");
  std::string names;
  for (const NamedFeatureMap& known : kFeatureMaps) {
    if (name == known.name) return known.map;
    absl::StrAppend(&names, names.empty() ? "" : ", ", known.name);
  }
  reader.Refuse("feature_map", absl::StrCat("it must be one of these: ", names));
  return FeatureMapName::kIdentity;
}

}  // namespace

absl::StatusOr<LinearAttnConfig> ReadLinearAttnConfig(JsonReader& reader) {
  LinearAttnConfig config = {};
  config.trunk = ReadFlaTrunk(reader, {});
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, {});
  config.feature_map = ReadFeatureMap(reader);
  const int32_t features = config.Map().Features();
  if (features > kMaxGatedDim) {
    reader.Refuse("feature_map",
                  absl::StrCat("of ", config.heads.head_k_dim, " channels it makes ", features,
                               " features a head; the limit is ", kMaxGatedDim));
  }
  config.tie_feature_map_qk = reader.Bool("tie_feature_map_qk", false);
  config.norm_q = reader.Bool("norm_q", false);
  config.norm_k = reader.Bool("norm_k", false);
  config.norm_feature_map = reader.Bool("norm_feature_map", false);
  config.elementwise_affine = ReadFlaAffine(reader);
  RefuseFlaHybrids(reader);
  ReadFlaMode(reader, "fused_chunk");
  // Named so, it changes the names of no module here.
  reader.Bool("fuse_norm", true);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
