#include "engine/models/xlstm_config.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/models/size_limits.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

// What changes nothing.
constexpr std::string_view kIgnoredKeys[] = {
    // There is a norm before the head whatever this says.
    "add_out_norm",
    // How the reference runs.
    "autocast_kernel_dtype",
    "chunk_size",
    "chunkwise_kernel",
    "inference_state_dtype",
    "max_inference_chunksize",
    "mode",
    "norm_reduction_force_float32",
    "return_last_states",
    "sequence_kernel",
    "step_kernel",
    // Of the code that xLSTM-7b was trained with; transformers does not read them.
    "add_embedding_dropout",
    "add_forward_backend_padding",
    "add_post_blocks_norm",
    "add_post_norm",
    "add_qk_norm",
    "cell_norm_eps",
    "force_bos_token_insert",
    "forward_backend_name",
    "head_dim",
    "igate_bias_init_range",
    "mlstm_round_up_to_multiple_of",
    "step_backend_name",
};

// Two names of one number, of which transformers takes the second where the first is null.
int64_t ReadTwoNames(JsonReader& reader, const char* name, const char* other, int64_t fallback,
                     int64_t min, int64_t max) {
  const char* const first = reader.Has(name) || !reader.Has(other) ? name : other;
  const int64_t value = reader.Has(first) ? reader.Int(first, fallback, min, max) : fallback;
  if (reader.Has(other) && reader.Int(other, value, min, max) != value) {
    reader.Refuse(other, absl::StrCat(name, " is ", value, "; they must be the same"));
  }
  return value;
}

int32_t ReadHeadDimOf(JsonReader& reader, const char* key, double fallback,
                      const XlstmConfig& config) {
  const double factor = reader.Number(key, fallback, 1e-4, 1e4);
  const auto total = static_cast<int64_t>(config.hidden_size * factor);
  const int64_t dim = total / config.num_heads;
  if (total % config.num_heads != 0 || dim < kHeadDimMultiple || dim > kMaxHeadDim ||
      dim % kHeadDimMultiple != 0) {
    reader.Refuse(
        key,
        absl::StrCat("with hidden_size ", config.hidden_size, " it makes ", total, " channels of ",
                     config.num_heads, " heads; those of a head must be a multiple of ",
                     kHeadDimMultiple, " from ", kHeadDimMultiple, " to ", kMaxHeadDim));
  }
  return static_cast<int32_t>(dim);
}

// transformers' formula, in floating point as there.
int32_t ReadIntermediateSize(JsonReader& reader, int32_t hidden_size) {
  const double factor = reader.Number("ffn_proj_factor", 2.667, 1e-4, 1e4);
  const auto multiple =
      static_cast<double>(reader.Int("ffn_round_up_to_multiple_of", 64, 1, kMaxIntermediateSize));
  const auto size =
      static_cast<int64_t>(std::floor((hidden_size * factor + multiple - 1) / multiple) * multiple);
  if (size < kWidthMultiple || size > kMaxIntermediateSize || size % kWidthMultiple != 0) {
    reader.Refuse(
        "ffn_proj_factor",
        absl::StrCat("with hidden_size ", hidden_size, " and ffn_round_up_to_multiple_of ",
                     multiple, " it makes an MLP of ", size, "; it must be a multiple of ",
                     kWidthMultiple, " from ", kWidthMultiple, " to ", kMaxIntermediateSize));
  }
  return static_cast<int32_t>(size);
}

bool ReadFused(JsonReader& reader) {
  const std::string mode = reader.String("weight_mode", "single");
  if (mode != "single" && mode != "fused") {
    reader.Refuse("weight_mode", "it must be single or fused");
  }
  return mode == "fused";
}

void RefuseOtherFunctions(JsonReader& reader) {
  // transformers ties nothing.
  if (reader.Bool("tie_word_embeddings", false)) {
    reader.Refuse("tie_word_embeddings", "an xLSTM's head is not tied to its embedding");
  }
}

}  // namespace

absl::StatusOr<XlstmConfig> ReadXlstmConfig(JsonReader& reader) {
  XlstmConfig config = {};
  config.hidden_size = static_cast<int32_t>(
      ReadTwoNames(reader, "hidden_size", "embedding_dim", 4096, kWidthMultiple, kMaxHiddenSize));
  if (config.hidden_size % kWidthMultiple != 0) {
    reader.Refuse("hidden_size", absl::StrCat("it must be a multiple of ", kWidthMultiple));
  }
  config.num_layers = static_cast<int32_t>(
      ReadTwoNames(reader, "num_hidden_layers", "num_blocks", 32, 1, kMaxLayers));
  config.vocab_size = static_cast<int32_t>(reader.Int("vocab_size", 50304, 8, kMaxVocabSize));
  config.num_heads = static_cast<int32_t>(reader.Int("num_heads", 8, 1, kMaxHeads));
  config.head_k_dim = ReadHeadDimOf(reader, "qk_dim_factor", 0.5, config);
  config.head_v_dim = ReadHeadDimOf(reader, "v_dim_factor", 1, config);
  config.intermediate_size = ReadIntermediateSize(reader, config.hidden_size);
  config.norm_eps = static_cast<float>(reader.Number("norm_eps", 1e-6, 1e-12, 0.1));
  config.eps = static_cast<float>(reader.Number("eps", 1e-6, 1e-12, 1));
  config.gate_soft_cap = static_cast<float>(reader.Number("gate_soft_cap", 15, 1e-3, 1e6));
  config.logit_soft_cap = static_cast<float>(reader.Number("output_logit_soft_cap", 30, 1e-3, 1e6));
  config.use_bias = reader.Bool("use_bias", false);
  config.fused = ReadFused(reader);
  RefuseOtherFunctions(reader);
  reader.Ignore(kIgnoredKeys);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
