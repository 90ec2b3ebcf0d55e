#include "engine/models/retnet_config.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr FlaDefaults kDefaults = {.num_heads = 8, .expand_v = 2.0, .hidden_ratio = 2};
constexpr int32_t kMaxKeyDim = 256;  // fla's layer refuses more

constexpr std::string_view kIgnoredKeys[] = {"use_short_conv", "conv_size", "share_conv_kernel"};

struct NamedActivation {
  const char* name;
  Activation activation;
};

// The names of ACT2FN in transformers that a kernel has. Its "gelu" is the form with erf.
constexpr std::array<NamedActivation, 11> kFeatureMaps = {{
    {"linear", Activation::kNone},
    {"relu", Activation::kRelu},
    {"relu2", Activation::kSquareRelu},
    {"sigmoid", Activation::kSigmoid},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"tanh", Activation::kTanh},
    {"gelu_fast", Activation::kGelu},
    {"gelu_new", Activation::kGelu},
    {"gelu_python_tanh", Activation::kGelu},
    {"gelu_pytorch_tanh", Activation::kGelu},
}};

Activation ReadFeatureMap(JsonReader& reader) {
  if (!reader.Has("feature_map")) return Activation::kNone;
  const std::string name = reader.String("feature_map", "");
  std::string names;
  for (const NamedActivation& known : kFeatureMaps) {
    if (name == known.name) return known.activation;
    absl::StrAppend(&names, ", ", known.name);
  }
  reader.Refuse("feature_map", absl::StrCat("it must be null", names));
  return Activation::kNone;
}

}  // namespace

absl::StatusOr<RetNetConfig> ReadRetNetConfig(JsonReader& reader) {
  RetNetConfig config = {};
  config.trunk = ReadFlaTrunk(reader, kDefaults);
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, kDefaults);
  if (config.heads.head_k_dim > kMaxKeyDim) {
    reader.Refuse("expand_k", absl::StrCat("it makes ", config.heads.head_k_dim,
                                           " key channels a head; the limit is ", kMaxKeyDim));
  }
  config.feature_map = ReadFeatureMap(reader);
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
