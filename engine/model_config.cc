#include "engine/model_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = 1 << 20;
constexpr size_t kMaxEosTokens = 64;
constexpr const char* kConfigFile = "config.json";
constexpr const char* kGenerationFile = "generation_config.json";

// What transformers of one version or another writes into every config.json and no model's function
// depends on. Its settings for generation are read of generation_config.json alone.
constexpr std::string_view kIgnoredKeys[] = {
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "max_position_embeddings",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
};

// What Model needs to know of a family, with the token ids that its class has for absent keys.
// `sizes` is the part of its config that has them.
template <typename Sizes>
ModelConfig Describe(const Sizes& sizes, bool tied, int32_t bos, int32_t eos,
                     const FamilyConfig& family) {
  return {
      .model_type = {},
      .hidden_size = sizes.hidden_size,
      .num_layers = sizes.num_layers,
      .vocab_size = sizes.vocab_size,
      .tie_word_embeddings = tied,
      .bos_token_id = bos,
      .generation = {.eos_token_ids = {eos}},
      .family = family,
  };
}

// A family in fla's format, by the function that reads its config.
template <auto kRead>
absl::StatusOr<ModelConfig> ReadFla(JsonReader& reader) {
  SLUICE_ASSIGN_OR_RETURN(const auto config, kRead(reader));
  return Describe(config.trunk, config.trunk.tie_word_embeddings, 1, 2, config);
}

// A Mamba of either generation.
template <auto kRead>
absl::StatusOr<ModelConfig> ReadMamba(JsonReader& reader) {
  SLUICE_ASSIGN_OR_RETURN(const auto config, kRead(reader));
  return Describe(config.trunk, config.trunk.tie_word_embeddings, config.trunk.bos_token_id,
                  config.trunk.eos_token_id, config);
}

absl::StatusOr<ModelConfig> ReadXlstm(JsonReader& reader) {
  SLUICE_ASSIGN_OR_RETURN(const XlstmConfig config, ReadXlstmConfig(reader));
  return Describe(config, /*tied=*/false, 0, 2, config);
}

struct Family {
  const char* model_type;
  // Reads the family's keys, and gives its default token ids.
  absl::StatusOr<ModelConfig> (*read)(JsonReader& reader);
};

constexpr Family kFamilies[] = {
    {"decaying_fast_weights", ReadFla<ReadDecayingFastWeightsConfig>},
    {"gated_retnet", ReadFla<ReadGatedRetNetConfig>},
    {"gated_rfa", ReadFla<ReadGatedRfaConfig>},
    {"gla", ReadFla<ReadGlaConfig>},
    {"hgrn2", ReadFla<ReadHgrn2Config>},
    {"linear_attn", ReadFla<ReadLinearAttnConfig>},
    {"mamba", ReadMamba<ReadMambaConfig>},
    {"mamba2", ReadMamba<ReadMamba2Config>},
    {"retnet", ReadFla<ReadRetNetConfig>},
    {"rwkv6", ReadFla<ReadRwkv6Config>},
    {"xlstm", ReadXlstm},
};

const Family* ReadFamily(JsonReader& reader) {
  const std::string model_type = reader.String("model_type", "");
  for (const Family& family : kFamilies) {
    if (model_type == family.model_type) return &family;
  }
  reader.Refuse("model_type",
                absl::StrCat("the supported ones are: ", absl::StrJoin(FamilyNames(), ", ")));
  return nullptr;
}

// A token id, a list of them or null. `ids` stays as it is when the key is absent.
void ReadTokenIds(JsonReader& reader, const char* key, int32_t vocab_size,
                  std::vector<int32_t>& ids) {
  if (reader.IsNull(key)) ids.clear();
  if (!reader.Has(key)) return;
  ids.clear();
  const nlohmann::json& value = reader.Value(key);
  const nlohmann::json list = value.is_array() ? value : nlohmann::json::array({value});
  if (list.size() > kMaxEosTokens) {
    reader.Refuse(key, absl::StrCat("it has ", list.size(), " ids; the limit is ", kMaxEosTokens));
    return;
  }
  for (const nlohmann::json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocab_size)) {
      reader.Refuse(key, absl::StrCat("it must hold token ids from 0 to ", vocab_size - 1));
      return;
    }
    ids.push_back(id.get<int32_t>());
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
}

void ReadBosToken(JsonReader& reader, ModelConfig& config) {
  if (reader.Has("bos_token_id")) {
    config.bos_token_id =
        static_cast<int32_t>(reader.Int("bos_token_id", 0, 0, config.vocab_size - 1));
  } else if (reader.IsNull("bos_token_id") || *config.bos_token_id >= config.vocab_size) {
    config.bos_token_id.reset();
  }
}

std::optional<float> ReadOptional(JsonReader& reader, const char* key, double min, double max) {
  if (!reader.Has(key)) return std::nullopt;
  return static_cast<float>(reader.Number(key, min, min, max));
}

absl::Status ReadGenerationDefaults(std::string_view text, ModelConfig& config) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, kGenerationFile));
  JsonReader reader(json, kGenerationFile);
  GenerationDefaults& defaults = config.generation;
  if (reader.Has("do_sample")) defaults.do_sample = reader.Bool("do_sample", false);
  defaults.temperature = ReadOptional(reader, "temperature", 0, 100);
  defaults.top_p = ReadOptional(reader, "top_p", 1e-6, 1);
  defaults.min_p = ReadOptional(reader, "min_p", 0, 1);
  defaults.repetition_penalty = ReadOptional(reader, "repetition_penalty", 0.01, 10);
  if (reader.Has("top_k")) {
    // More than there are tokens keeps all, as the whole vocabulary does.
    const int64_t top_k = reader.Int("top_k", 0, 0, INT32_MAX);
    defaults.top_k = static_cast<int32_t>(std::min<int64_t>(top_k, config.vocab_size));
  }
  // Null here leaves what config.json says, as transformers does.
  if (reader.Has("eos_token_id")) {
    ReadTokenIds(reader, "eos_token_id", config.vocab_size, defaults.eos_token_ids);
  }
  return reader.status();
}

}  // namespace

std::vector<std::string> FamilyNames() {
  std::vector<std::string> names;
  for (const Family& family : kFamilies) names.emplace_back(family.model_type);
  return names;
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config,
                                             std::optional<std::string_view> generation_config) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(TagInfinities(config), kConfigFile));
  JsonReader reader(json, kConfigFile);
  const Family* family = ReadFamily(reader);
  SLUICE_RETURN_IF_ERROR(reader.status());
  SLUICE_ASSIGN_OR_RETURN(ModelConfig model, family->read(reader));
  model.model_type = family->model_type;
  ReadBosToken(reader, model);
  std::vector<int32_t>& eos = model.generation.eos_token_ids;
  std::erase_if(eos, [&](int32_t id) { return id >= model.vocab_size; });
  ReadTokenIds(reader, "eos_token_id", model.vocab_size, eos);
  reader.Ignore(kIgnoredKeys);
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  if (generation_config.has_value()) {
    SLUICE_RETURN_IF_ERROR(ReadGenerationDefaults(*generation_config, model));
  }
  return model;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::filesystem::path& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    return absl::NotFoundError(
        absl::StrCat("there is no model directory ", Quoted(directory.string())));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::string config,
                          ReadWholeFile(directory / kConfigFile, kMaxFileBytes));
  std::optional<std::string> generation_config;
  if (std::filesystem::exists(directory / kGenerationFile, error)) {
    SLUICE_ASSIGN_OR_RETURN(generation_config,
                            ReadWholeFile(directory / kGenerationFile, kMaxFileBytes));
  }
  absl::StatusOr<ModelConfig> model = ParseModelConfig(config, generation_config);
  if (model.ok()) return model;
  return absl::Status(model.status().code(),
                      absl::StrCat(directory.string(), ": ", model.status().message()));
}

}  // namespace sluice
