// What a Hugging Face model directory says about its model: config.json and generation_config.json.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/models/decaying_fast_weights_config.h"
#include "engine/models/gated_retnet_config.h"
#include "engine/models/gated_rfa_config.h"
#include "engine/models/gla_config.h"
#include "engine/models/hgrn2_config.h"
#include "engine/models/linear_attn_config.h"
#include "engine/models/mamba2_config.h"
#include "engine/models/mamba_config.h"
#include "engine/models/retnet_config.h"
#include "engine/models/rwkv6_config.h"
#include "engine/models/xlstm_config.h"

namespace sluice {

// What the author of a model suggests for sampling; none where nothing is said. The keys of
// generation_config.json beyond these do not concern a server and are not looked at; of config.json
// only eos_token_id is read, and other settings for generation are refused there.
struct GenerationDefaults {
  std::optional<bool> do_sample;     // false asks for greedy decoding, whatever the rest says
  std::optional<float> temperature;  // 0..100
  std::optional<float> top_p;        // 0..1
  std::optional<float> min_p;        // 0..1
  std::optional<float> repetition_penalty;  // 0.01..10; 1 changes nothing
  std::optional<int32_t> top_k;             // 0, which means all, to vocab_size
  std::vector<int32_t> eos_token_ids;       // distinct, of either file; may be empty
};

// One alternative a family of models, each with its own config.
using FamilyConfig = std::variant<DecayingFastWeightsConfig, GatedRetNetConfig, GatedRfaConfig,
                                  GlaConfig, Hgrn2Config, LinearAttnConfig, MambaConfig,
                                  Mamba2Config, RetNetConfig, Rwkv6Config, XlstmConfig>;

struct ModelConfig {
  std::string model_type;  // the key of the table of families
  int32_t hidden_size;
  int32_t num_layers;
  int32_t vocab_size;
  bool tie_word_embeddings;
  std::optional<int32_t> bos_token_id;  // less than vocab_size
  GenerationDefaults generation;
  FamilyConfig family;
};

// The model_type of every family that is supported, in order.
std::vector<std::string> FamilyNames();

// Reads the texts of config.json and generation_config.json, where there is one.
// InvalidArgument, with file, key, value and limit, for what is malformed, out of range or unknown.
absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view config,
                                             std::optional<std::string_view> generation_config);

// ParseModelConfig on the files of a directory. NotFound when it or its config.json is missing.
absl::StatusOr<ModelConfig> ReadModelConfig(const std::filesystem::path& directory);

}  // namespace sluice
