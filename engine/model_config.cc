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
// depends on; also how much it would generate and in what form, which a request says here.
constexpr std::string_view kIgnoredKeys[] = {
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "auto_map",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "dtype",
    "finetuning_task",
    "id2label",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "max_length",
    "max_position_embeddings",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "pruned_heads",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "use_bfloat16",
    "use_cache",
};

// How transformers 4 generates where there is no generation_config.json, with what it writes into
// config.json for a model that says nothing of it.
struct GenerationKey {
  std::string_view name;
  const char* neutral;     // as JSON; null is taken for the same
  bool supported = false;  // by ReadGenerationDefaults
};

constexpr GenerationKey kGenerationKeys[] = {
    {"bad_words_ids", "null"},
    {"begin_suppress_tokens", "null"},
    {"diversity_penalty", "0.0"},
    {"do_sample", "false", true},
    {"early_stopping", "false"},
    {"encoder_no_repeat_ngram_size", "0"},
    {"exponential_decay_length_penalty", "null"},
    {"forced_bos_token_id", "null"},
    {"forced_eos_token_id", "null"},
    {"length_penalty", "1.0"},
    {"min_length", "0"},
    {"no_repeat_ngram_size", "0"},
    {"num_beam_groups", "1"},
    {"num_beams", "1"},
    {"remove_invalid_values", "false"},
    {"repetition_penalty", "1.0", true},
    {"suppress_tokens", "null"},
    {"temperature", "1.0", true},
    {"top_k", "50", true},
    {"top_p", "1.0", true},
    {"typical_p", "1.0"},
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

// Of config.json, which is no place for them; what the other file has as well is taken from there.
void RefuseGenerationKeys(JsonReader& reader, const nlohmann::json& generation) {
  for (const GenerationKey& key : kGenerationKeys) {
    if (!reader.Has(key.name)) continue;
    if (reader.Value(key.name) == nlohmann::json::parse(key.neutral, nullptr, false)) continue;
    const auto there = generation.find(key.name);
    if (!key.supported) {
      reader.Refuse(key.name, absl::StrCat("it must be ", key.neutral,
                                           ": another way to generate is not supported"));
    } else if (there == generation.end() || there->is_null()) {
      reader.Refuse(key.name, absl::StrCat("put it into ", kGenerationFile,
                                           ", the only file that says how to generate"));
    }
  }
}

absl::Status ReadGenerationDefaults(const nlohmann::json& json, ModelConfig& config) {
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
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json generation,
                          ParseJson(generation_config.value_or("{}"), kGenerationFile));
  RefuseGenerationKeys(reader, generation);
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  SLUICE_RETURN_IF_ERROR(ReadGenerationDefaults(generation, model));
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
