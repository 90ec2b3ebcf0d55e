#include "engine/models/mamba_keys.h"

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/models/size_limits.h"

namespace sluice {
namespace {

// Keys that only fla has, in files of today.
constexpr const char* kFlaKeys[] = {
    "A_init_range",
    "D_has_hdim",
    "conv_init",
    "dt_init_floor",
    "dt_init_scheme",
    "dt_limit",
    "dt_max",
    "dt_min",
    "dt_rank",
    "dt_scale",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "fuse_norm",
    "rmsnorm",
    "use_l2warp",
};

constexpr std::string_view kIgnoredKeys[] = {
    // How weights are drawn before training.
    "A_init_range",
    "conv_init",
    "dt_init_floor",
    "dt_init_scheme",
    "dt_max",
    "dt_min",
    "dt_scale",
    "rescale_prenorm_residual",
    "time_step_floor",
    "time_step_init_scheme",
    "time_step_max",
    "time_step_min",
    "time_step_scale",
    // How the same function is computed.
    "chunk_size",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "fuse_norm",
    "residual_in_fp32",
    "use_associative_scan",
    "use_l2warp",
    "use_mambapy",
    // What the checkpoints that transformers' were converted from say by other names; neither
    // library looks at them.
    "d_inner",
    "d_model",
    "fused_add_norm",
    "n_layer",
    "pad_vocab_size_multiple",
    "rms_norm",
    "ssm_cfg",
};

int32_t ReadInnerSize(JsonReader& reader, int32_t hidden_size, bool by_intermediate_size) {
  reader.Ignore({"expand", "intermediate_size"});
  if (by_intermediate_size && reader.Has("intermediate_size")) {
    return ReadWidth(reader, "intermediate_size", kWidthMultiple, kMaxMambaInnerSize);
  }
  const double expand = reader.Number("expand", 2, 1e-3, 1e3);
  const auto inner = static_cast<int64_t>(expand * hidden_size);
  if (inner < kWidthMultiple || inner > kMaxMambaInnerSize || inner % kWidthMultiple != 0) {
    reader.Refuse("expand", absl::StrCat("with hidden_size ", hidden_size, " it makes ", inner,
                                         " channels; it must be a multiple of ", kWidthMultiple,
                                         " from ", kWidthMultiple, " to ", kMaxMambaInnerSize));
  }
  return static_cast<int32_t>(inner);
}

}  // namespace

MambaFormat ReadMambaFormat(JsonReader& reader) {
  const bool fla = reader.Has("norm_eps");
  const bool transformers = reader.Has("layer_norm_epsilon");
  if (fla && transformers) {
    reader.Refuse("norm_eps",
                  "layer_norm_epsilon is there as well, so that it is not known whose format the "
                  "file has: keep the one by which the model was trained");
  }
  if (fla || transformers) return fla ? MambaFormat::kFla : MambaFormat::kTransformers;
  const bool marked = std::any_of(std::begin(kFlaKeys), std::end(kFlaKeys),
                                  [&](const char* key) { return reader.Has(key); });
  return marked ? MambaFormat::kFla : MambaFormat::kTransformers;
}

MambaTrunk ReadMambaTrunk(JsonReader& reader, MambaFormat format, const MambaDefaults& defaults) {
  const char* const eps = format == MambaFormat::kFla ? "norm_eps" : "layer_norm_epsilon";
  MambaTrunk trunk = {};
  trunk.hidden_size = ReadWidth(reader, "hidden_size", defaults.hidden_size, kMaxHiddenSize);
  trunk.num_layers =
      static_cast<int32_t>(reader.Int("num_hidden_layers", defaults.num_layers, 1, kMaxLayers));
  trunk.vocab_size =
      static_cast<int32_t>(reader.Int("vocab_size", defaults.vocab_size, 8, kMaxVocabSize));
  trunk.inner_size = ReadInnerSize(reader, trunk.hidden_size, defaults.by_intermediate_size);
  trunk.conv_kernel = static_cast<int32_t>(reader.Int("conv_kernel", 4, 2, 8));
  trunk.norm_eps = static_cast<float>(reader.Number(eps, 1e-5, 1e-12, 0.1));
  trunk.use_bias = reader.Bool("use_bias", false);
  trunk.use_conv_bias = reader.Bool("use_conv_bias", true);
  trunk.tie_word_embeddings = reader.Bool("tie_word_embeddings", defaults.tie_word_embeddings);
  trunk.bos_token_id = defaults.bos_token_id;
  trunk.eos_token_id = defaults.eos_token_id;
  const std::string act = reader.String("hidden_act", "silu");
  if (act != "silu" && act != "swish") reader.Refuse("hidden_act", "it must be silu or swish");
  reader.Ignore(kIgnoredKeys);
  return trunk;
}

const char* EitherKey(JsonReader& reader, const char* name, const char* other) {
  if (!reader.Has(other)) return name;
  if (!reader.Has(name)) return other;
  if (reader.Value(name) != reader.Value(other)) {
    reader.Refuse(name, absl::StrCat(other, " is there as well, with another value"));
  }
  return name;
}

}  // namespace sluice
