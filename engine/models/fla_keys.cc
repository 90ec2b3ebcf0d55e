#include "engine/models/fla_keys.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/models/size_limits.h"

namespace sluice {
namespace {

// Which fused kernels fla trains with, and its training losses.
constexpr std::string_view kIgnoredKeys[] = {
    "fuse_swiglu",
    "fuse_cross_entropy",
    "fuse_linear_cross_entropy",
    "use_l2warp",
};

// fla's formula: two thirds of hidden_ratio * hidden_size, rounded up to a multiple of 256; all of
// it, to a multiple of 32, where the MLP has no gate.
int32_t ReadIntermediateSize(JsonReader& reader, int32_t hidden_size, const FlaDefaults& defaults) {
  // What null is, whatever an absent key is.
  const double null_ratio = defaults.gated_mlp ? 4 : 3.5;
  const double ratio = reader.IsNull("hidden_ratio")
                           ? null_ratio
                           : reader.Number("hidden_ratio", defaults.hidden_ratio, 0.01, 64);
  if (reader.Has("intermediate_size")) {
    return ReadWidth(reader, "intermediate_size", kWidthMultiple, kMaxIntermediateSize);
  }
  const double all = hidden_size * ratio;
  const auto exact = static_cast<int64_t>(defaults.gated_mlp ? all * 2 / 3 : all);
  const int64_t multiple = defaults.gated_mlp ? 256 : 32;
  const int64_t rounded = (exact + multiple - 1) / multiple * multiple;
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
  trunk.intermediate_size = ReadIntermediateSize(reader, trunk.hidden_size, defaults);
  trunk.norm_eps = static_cast<float>(reader.Number("norm_eps", defaults.norm_eps, 1e-12, 0.1));
  trunk.tie_word_embeddings = reader.Bool("tie_word_embeddings", false);
  return trunk;
}

FlaHeads ReadFlaHeads(JsonReader& reader, int32_t hidden_size, const FlaDefaults& defaults,
                      bool grouped) {
  FlaHeads heads = {};
  heads.num_heads = static_cast<int32_t>(reader.Int("num_heads", defaults.num_heads, 1, kMaxHeads));
  heads.num_kv_heads = heads.num_heads;
  if (grouped && reader.Has("num_kv_heads")) {
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
  if (conv.use) {
    conv.size = static_cast<int32_t>(reader.Int("conv_size", 4, 2, 8));
  } else if (!reader.IsNull("conv_size")) {
    // It means nothing then, and old checkpoints hold whatever was the default.
    conv.size = static_cast<int32_t>(reader.Int("conv_size", 4, 0, INT32_MAX));
  }
  // Written by fla before 2025, with true as its default.
  if (reader.Bool("share_conv_kernel", false) && conv.use) {
    reader.Refuse("share_conv_kernel", "one convolution for q, k and v is not supported");
  }
  return conv;
}

bool ReadFlaAffine(JsonReader& reader, bool fallback) {
  const bool null = reader.IsNull("elementwise_affine");
  return !null && reader.Bool("elementwise_affine", fallback);
}

std::string_view ReadFlaGateNormName(JsonReader& reader, bool use_output_gate) {
  return reader.Bool("fuse_norm", true) && use_output_gate ? "g_norm_swish_gate" : "g_norm";
}

void ReadFlaMode(JsonReader& reader, std::string_view fallback, bool parallel) {
  const std::string mode = reader.String("attn_mode", fallback);
  if (mode == "chunk" || mode == "fused_chunk" || mode == "fused_recurrent") return;
  if (parallel && mode == "parallel") return;
  reader.Refuse("attn_mode", absl::StrCat("it must be chunk, fused_chunk",
                                          parallel ? ", parallel" : "", " or fused_recurrent"));
}

void RequireKeys(JsonReader& reader, absl::Span<const std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (!reader.Has(key)) reader.Refuse(key, "it has no default");
  }
}

void RefuseFlaHybrids(JsonReader& reader, const char* hidden_act) {
  if (reader.Has("attn")) {
    reader.Refuse("attn", "layers with softmax attention are not supported");
  }
  if (reader.Has("attnres_block_size")) {
    reader.Refuse("attnres_block_size", "attention residuals are not supported");
  }
  // fla's MLP builds with no other function that its output gates know.
  if (hidden_act != nullptr && reader.String("hidden_act", hidden_act) != hidden_act) {
    reader.Refuse("hidden_act", absl::StrCat("it must be ", hidden_act));
  }
  reader.Ignore(kIgnoredKeys);
}

}  // namespace sluice
