#include "engine/models/retnet_config.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/models/activation_names.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr FlaDefaults kDefaults = {.num_heads = 8, .expand_v = 2.0, .hidden_ratio = 2};
constexpr int32_t kMaxKeyDim = 256;  // fla's layer refuses more

constexpr std::string_view kIgnoredKeys[] = {"use_short_conv", "conv_size", "share_conv_kernel"};

}  // namespace

absl::StatusOr<RetNetConfig> ReadRetNetConfig(JsonReader& reader) {
  RetNetConfig config = {};
  config.trunk = ReadFlaTrunk(reader, kDefaults);
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, kDefaults);
  if (config.heads.head_k_dim > kMaxKeyDim) {
    reader.Refuse("expand_k", absl::StrCat("it makes ", config.heads.head_k_dim,
                                           " key channels a head; the limit is ", kMaxKeyDim));
  }
  config.feature_map = ReadActivation(reader, "feature_map", ActivationNames::kTransformers);
  config.use_output_gate = reader.Bool("use_output_gate", true);
  config.gate_norm = ReadFlaGateNormName(reader, config.use_output_gate);
  config.elementwise_affine = ReadFlaAffine(reader);
  RefuseFlaHybrids(reader);
  ReadFlaMode(reader, "chunk", /*parallel=*/true);
  reader.Ignore(kIgnoredKeys);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
