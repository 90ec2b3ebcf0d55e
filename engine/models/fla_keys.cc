#include "engine/models/fla_keys.h"

#include <array>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"

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
constexpr std::array<NamedActivation, 6> kActivations = {{
    {"relu", Activation::kRelu},
    {"sigmoid", Activation::kSigmoid},
    {"silu", Activation::kSilu},
    {"swish", Activation::kSilu},
    {"sqrelu", Activation::kSquareRelu},
    {"gelu", Activation::kGelu},
}};

int32_t ReadWidth(JsonReader& reader, const char* key, int64_t fallback, int64_t max) {
  const int64_t width = reader.Int(key, fallback, kWidthMultiple, max);
  if (width % kWidthMultiple != 0) {
    reader.Refuse(key, absl::StrCat("it must be a multiple of ", kWidthMultiple));
  }
  return static_cast<int32_t>(width);
}

// fla's formula: two thirds of hidden_ratio * hidden_size, rounded up to a multiple of 256.
int32_t ReadIntermediateSize(JsonReader& reader, int32_t hidden_size, double fallback) {
  const double ratio =
      reader.Has("hidden_ratio") ? reader.Number("hidden_ratio", 4, 0.01, 64) : fallback;
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
int32_t HeadDim(JsonReader& reader, const char* key, double ratio, int32_t hidden_size,
                int32_t num_heads) {
  const double exact = hidden_size * ratio;
  const double whole = std::round(exact);
  const auto total = static_cast<int64_t>(whole);
  const int64_t head_dim = total / num_heads;
  const std::string prefix =
      absl::StrCat("with hidden_size ", hidden_size, " and ", num_heads, " heads it makes ");
  if (std::abs(exact - whole) > 1e-9 * exact || total % num_heads != 0) {
    reader.Refuse(
        key, absl::StrCat(prefix, exact / num_heads, " channels a head, which is no whole number"));
  } else if (head_dim < kHeadDimMultiple || head_dim > kMaxHeadDim ||
             head_dim % kHeadDimMultiple != 0) {
    reader.Refuse(key,
                  absl::StrCat(prefix, head_dim, " channels a head; it must be a multiple of ",
                               kHeadDimMultiple, " from ", kHeadDimMultiple, " to ", kMaxHeadDim));
  }
  return static_cast<int32_t>(head_dim);
}

}  // namespace

FlaTrunk ReadFlaTrunk(JsonReader& reader, const FlaDefaults& defaults) {
  FlaTrunk trunk = {};
  trunk.hidden_size = ReadWidth(reader, "hidden_size", defaults.hidden_size, kMaxHiddenSize);
  trunk.num_layers =
      static_cast<int32_t>(reader.Int("num_hidden_layers", defaults.num_layers, 1, kMaxLayers));
  trunk.vocab_size = static_cast<int32_t>(reader.Int("vocab_size", 32000, 8, kMaxVocabSize));
  trunk.intermediate_size = ReadIntermediateSize(reader, trunk.hidden_size, defaults.hidden_ratio);
  trunk.norm_eps = static_cast<float>(reader.Number("norm_eps", defaults.norm_eps, 1e-12, 0.1));
  trunk.tie_word_embeddings = reader.Bool("tie_word_embeddings", false);
  return trunk;
}

FlaHeads ReadFlaHeads(JsonReader& reader, int32_t hidden_size, const FlaDefaults& defaults) {
  FlaHeads heads = {};
  heads.num_heads = static_cast<int32_t>(reader.Int("num_heads", defaults.num_heads, 1, kMaxHeads));
  heads.num_kv_heads = heads.num_heads;
  if (reader.Has("num_kv_heads")) {
    heads.num_kv_heads =
        static_cast<int32_t>(reader.Int("num_kv_heads", heads.num_heads, 1, heads.num_heads));
  }
  if (heads.num_heads % heads.num_kv_heads != 0) {
    reader.Refuse("num_kv_heads", absl::StrCat("it must divide num_heads, ", heads.num_heads));
  }
  // The upper limit only keeps the product within range; the dimension of a head is what is
  // limited.
  heads.expand_k = reader.Number("expand_k", defaults.expand_k, 1e-4, 1e5);
  heads.expand_v = reader.Number("expand_v", defaults.expand_v, 1e-4, 1e5);
  heads.head_k_dim = HeadDim(reader, "expand_k", heads.expand_k, hidden_size, heads.num_heads);
  heads.head_v_dim = HeadDim(reader, "expand_v", heads.expand_v, hidden_size, heads.num_heads);
  return heads;
}

FlaShortConv ReadFlaShortConv(JsonReader& reader) {
  FlaShortConv conv = {};
  conv.use = reader.Bool("use_short_conv", false);
  // Without the convolution its size means nothing, and old checkpoints hold whatever was the
  // default.
  const int64_t max = conv.use ? 8 : INT32_MAX;
  const int64_t min = conv.use ? 2 : 0;
  conv.size = static_cast<int32_t>(reader.Int("conv_size", 4, min, max));
  // Written by fla before 2025, with true as its default.
  if (reader.Bool("share_conv_kernel", false) && conv.use) {
    reader.Refuse("share_conv_kernel", "one convolution for q, k and v is not supported");
  }
  return conv;
}

Activation ReadFlaActivation(JsonReader& reader, const char* key) {
  if (!reader.Has(key)) return Activation::kNone;
  const std::string name = reader.String(key, "");
  for (const NamedActivation& known : kActivations) {
    if (name == known.name) return known.activation;
  }
  reader.Refuse(key, "it must be null, relu, sigmoid, silu, swish, sqrelu or gelu");
  return Activation::kNone;
}

bool ReadFlaAffine(JsonReader& reader) {
  const bool null = reader.IsNull("elementwise_affine");
  return !null && reader.Bool("elementwise_affine", true);
}

void RefuseFlaHybrids(JsonReader& reader, const char* hidden_act) {
  if (reader.Has("attn")) {
    reader.Refuse("attn", "layers with softmax attention are not supported");
  }
  if (reader.Has("attnres_block_size")) {
    reader.Refuse("attnres_block_size", "attention residuals are not supported");
  }
  // fla's MLP builds with no other function that its output gates know.
  if (reader.String("hidden_act", hidden_act) != hidden_act) {
    reader.Refuse("hidden_act", absl::StrCat("it must be ", hidden_act));
  }
  reader.Ignore(kIgnoredKeys);
}

}  // namespace sluice
