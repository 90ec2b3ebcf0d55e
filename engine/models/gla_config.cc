#include "engine/models/gla_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxHiddenSize = 16384;
constexpr int64_t kMaxIntermediateSize = 131072;
constexpr int64_t kMaxLayers = 256;
constexpr int64_t kMaxHeads = 256;
constexpr int64_t kMaxVocabSize = 1'000'000;
constexpr int64_t kMaxHeadDim = 512;
constexpr int64_t kHeadDimMultiple = 16;
constexpr int64_t kWidthMultiple = 8;

// Which fused kernels fla trains with, and its training losses.
constexpr std::string_view kIgnoredKeys[] = {
    "fuse_swiglu",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "use_l2warp",
};

struct NamedActivation {
  const char* name;
  Activation activation;
};

// The names of ACT2FN in fla/modules/activations that a kernel has.
constexpr std::array<NamedActivation, 6> kFeatureMaps = {{
    {"relu", Activation::kRelu},
    {"sigmoid", Activation::kSigmoid},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"sqrelu", Activation::kSquareRelu},
    {"gelu", Activation::kGelu},
}};

Activation ReadFeatureMap(JsonReader& reader) {
  if (!reader.Has("feature_map")) return Activation::kNone;
  const std::string name = reader.String("feature_map", "");
  for (const NamedActivation& known : kFeatureMaps) {
    if (name == known.name) return known.activation;
  }
  reader.Refuse("feature_map", "it must be null, relu, sigmoid, silu, swish, sqrelu or gelu");
  return Activation::kNone;
}

int32_t ReadWidth(JsonReader& reader, const char* key, int64_t fallback, int64_t max) {
  const int64_t width = reader.Int(key, fallback, kWidthMultiple, max);
  if (width % kWidthMultiple != 0) {
    reader.Refuse(key, absl::StrCat("it must be a multiple of ", kWidthMultiple));
  }
  return static_cast<int32_t>(width);
}

// fla's formula: two thirds of hidden_ratio * hidden_size, rounded up to a multiple of 256.
int32_t ReadIntermediateSize(JsonReader& reader, int32_t hidden_size) {
  const double ratio = reader.Has("hidden_ratio") ? reader.Number("hidden_ratio", 4, 0.01, 64) : 4;
  if (reader.Has("intermediate_size")) {
    return ReadWidth(reader, "intermediate_size", kWidthMultiple, kMaxIntermediateSize);
  }
  const auto exact = static_cast<int64_t>(hidden_size * ratio * 2 / 3);
  const int64_t rounded = (exact + 255) / 256 * 256;
  if (rounded < 1 || rounded > kMaxIntermediateSize) {
    reader.Refuse("hidden_ratio", absl::StrCat("with hidden_size ", hidden_size,
                                               " it makes an intermediate_size of ", rounded,
                                               "; the limit is ", kMaxIntermediateSize));
  }
  return static_cast<int32_t>(rounded);
}

// The dimension of a head from the ratio of all heads together to the hidden size.
int32_t HeadDim(JsonReader& reader, const char* key, double ratio, const GlaConfig& config) {
  const double exact = config.hidden_size * ratio;
  const double whole = std::round(exact);
  const auto total = static_cast<int64_t>(whole);
  const int64_t head_dim = total / config.num_heads;
  const std::string prefix = absl::StrCat("with hidden_size ", config.hidden_size, " and ",
                                          config.num_heads, " heads it makes ");
  if (std::abs(exact - whole) > 1e-9 * exact || total % config.num_heads != 0) {
    reader.Refuse(key, absl::StrCat(prefix, exact / config.num_heads,
                                    " channels a head, which is no whole number"));
  } else if (head_dim < kHeadDimMultiple || head_dim > kMaxHeadDim ||
             head_dim % kHeadDimMultiple != 0) {
    reader.Refuse(key,
                  absl::StrCat(prefix, head_dim, " channels a head; it must be a multiple of ",
                               kHeadDimMultiple, " from ", kHeadDimMultiple, " to ", kMaxHeadDim));
  }
  return static_cast<int32_t>(head_dim);
}

void ReadHeads(JsonReader& reader, GlaConfig& config) {
  config.num_heads = static_cast<int32_t>(reader.Int("num_heads", 4, 1, kMaxHeads));
  config.num_kv_heads = config.num_heads;
  if (reader.Has("num_kv_heads")) {
    config.num_kv_heads =
        static_cast<int32_t>(reader.Int("num_kv_heads", config.num_heads, 1, config.num_heads));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    reader.Refuse("num_kv_heads", absl::StrCat("it must divide num_heads, ", config.num_heads));
  }
  // The upper limit only keeps the product within range; the dimension of a head is what is
  // limited.
  config.expand_k = reader.Number("expand_k", 0.5, 1e-4, 1e5);
  config.expand_v = reader.Number("expand_v", 1.0, 1e-4, 1e5);
  config.head_k_dim = HeadDim(reader, "expand_k", config.expand_k, config);
  config.head_v_dim = HeadDim(reader, "expand_v", config.expand_v, config);
}

void ReadShortConv(JsonReader& reader, GlaConfig& config) {
  config.use_short_conv = reader.Bool("use_short_conv", false);
  // Without the convolution its size means nothing, and old checkpoints hold whatever was the
  // default.
  const int64_t max = config.use_short_conv ? 8 : INT32_MAX;
  const int64_t min = config.use_short_conv ? 2 : 0;
  config.conv_size = static_cast<int32_t>(reader.Int("conv_size", 4, min, max));
  // Written by fla before 2025, with true as its default.
  if (reader.Bool("share_conv_kernel", false) && config.use_short_conv) {
    reader.Refuse("share_conv_kernel", "one convolution for q, k and v is not supported");
  }
}

// Keys that would make another function of the model.
void RefuseOtherFunctions(JsonReader& reader) {
  if (reader.Has("attn")) {
    reader.Refuse("attn", "layers with softmax attention are not supported");
  }
  if (reader.Has("attnres_block_size")) {
    reader.Refuse("attnres_block_size", "attention residuals are not supported");
  }
  if (!reader.Bool("use_gk", true))
    reader.Refuse("use_gk", "GLA always has a gate on the key side");
  if (reader.Bool("use_gv", false)) reader.Refuse("use_gv", "GLA has no gate on the value side");
  // fla's MLP builds with no other function that its output gate knows.
  if (reader.String("hidden_act", "swish") != "swish") {
    reader.Refuse("hidden_act", "it must be \"swish\"");
  }
  // Which of three forms of the same function fla runs.
  const std::string mode = reader.String("attn_mode", "chunk");
  if (mode != "chunk" && mode != "fused_chunk" && mode != "fused_recurrent") {
    reader.Refuse("attn_mode", "it must be chunk, fused_chunk or fused_recurrent");
  }
}

}  // namespace

absl::StatusOr<GlaConfig> ReadGlaConfig(JsonReader& reader) {
  GlaConfig config = {};
  config.gate_low_rank_dim = 16;
  config.gate_logit_normalizer = 16;
  config.hidden_size = ReadWidth(reader, "hidden_size", 2048, kMaxHiddenSize);
  config.num_layers = static_cast<int32_t>(reader.Int("num_hidden_layers", 24, 1, kMaxLayers));
  config.vocab_size = static_cast<int32_t>(reader.Int("vocab_size", 32000, 8, kMaxVocabSize));
  config.intermediate_size = ReadIntermediateSize(reader, config.hidden_size);
  ReadHeads(reader, config);
  ReadShortConv(reader, config);
  config.feature_map = ReadFeatureMap(reader);
  config.use_output_gate = reader.Bool("use_output_gate", true);
  config.fuse_norm = reader.Bool("fuse_norm", true);
  // fla takes null as false here.
  const bool null_affine = reader.IsNull("elementwise_affine");
  config.elementwise_affine = !null_affine && reader.Bool("elementwise_affine", true);
  config.norm_eps = static_cast<float>(reader.Number("norm_eps", 1e-6, 1e-12, 0.1));
  if (reader.Has("clamp_min")) {
    config.clamp_min = static_cast<float>(reader.Number("clamp_min", 0, -1e6, 0));
  }
  config.tie_word_embeddings = reader.Bool("tie_word_embeddings", false);
  RefuseOtherFunctions(reader);
  reader.Ignore(kIgnoredKeys);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
