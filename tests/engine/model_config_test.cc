#include "engine/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <variant>

#include "tests/engine/safetensors_writer.h"

namespace sluice {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

// A GLA config of small sizes with further keys, which replace those of the same name.
std::string Config(const std::string& extra = "") {
  const std::string tail = extra.empty() ? "" : "," + extra;
  return R"({"model_type":"gla")" + tail + "}";
}

const GlaConfig& Gla(const ModelConfig& config) { return std::get<GlaConfig>(config.family); }

// The config.json of fla-hub/gla-1.3B-100B in its keys, and with the shape of that model.
constexpr const char* kGla13B = R"({
  "architectures": ["GLAForCausalLM"], "attn": null, "attn_mode": "chunk", "bos_token_id": 1,
  "clamp_min": null, "conv_size": 4, "elementwise_affine": true, "eos_token_id": 2,
  "expand_k": 0.5, "expand_v": 1, "feature_map": null, "fuse_cross_entropy": true,
  "fuse_norm": true, "fuse_swiglu": true, "hidden_act": "swish", "hidden_ratio": 4,
  "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": null,
  "max_position_embeddings": 2048, "model_type": "gla", "norm_eps": 1e-06, "num_heads": 4,
  "num_hidden_layers": 24, "num_kv_heads": null, "share_conv_kernel": true,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.50.1",
  "use_cache": true, "use_gk": true, "use_gv": false, "use_output_gate": true,
  "use_short_conv": false, "vocab_size": 32000})";

TEST(ModelConfig, ReadsAPublishedConfig) {
  const auto config = ParseModelConfig(kGla13B, std::nullopt);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "gla");
  EXPECT_EQ(config->hidden_size, 2048);
  EXPECT_EQ(config->num_layers, 24);
  EXPECT_EQ(config->vocab_size, 32000);
  EXPECT_EQ(Gla(*config).trunk.intermediate_size, 5632);
  EXPECT_FLOAT_EQ(Gla(*config).trunk.norm_eps, 1e-6);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(2));
  const GlaConfig& gla = Gla(*config);
  EXPECT_EQ(gla.heads.num_heads, 4);
  EXPECT_EQ(gla.heads.num_kv_heads, 4);
  EXPECT_EQ(gla.heads.head_k_dim, 256);
  EXPECT_EQ(gla.heads.head_v_dim, 512);
  EXPECT_EQ(gla.heads.KeyDim(), 1024);
  EXPECT_EQ(gla.heads.ValueDim(), 2048);
  EXPECT_EQ(gla.feature_map, Activation::kNone);
  EXPECT_FALSE(gla.conv.use);
  EXPECT_TRUE(gla.use_output_gate);
  EXPECT_TRUE(gla.elementwise_affine);
  EXPECT_FALSE(gla.clamp_min.has_value());
  EXPECT_EQ(gla.gate_low_rank_dim, 16);
  EXPECT_EQ(gla.gate_logit_normalizer, 16);
  EXPECT_EQ(gla.gate_norm, "g_norm_swish_gate");
}

// As PreTrainedConfig.to_json_string(use_diff=False) writes it, of transformers 4 and 5.
TEST(ModelConfig, IgnoresWhatTransformersWritesIntoEveryFile) {
  const auto config = ParseModelConfig(
      Config(R"("return_dict":true,"output_hidden_states":false,"torchscript":false,
             "use_bfloat16":false,"tf_legacy_loss":false,"pruned_heads":{},"is_decoder":false,
             "is_encoder_decoder":false,"add_cross_attention":false,"tie_encoder_decoder":false,
             "cross_attention_hidden_size":null,"chunk_size_feed_forward":0,
             "id2label":{"0":"LABEL_0"},
             "label2id":{"LABEL_0":0},"prefix":null,"sep_token_id":null,"problem_type":null,
             "dtype":"bfloat16","transformers_version":"5.23.0")"),
      std::nullopt);
  ASSERT_TRUE(config.ok()) << config.status();
}

TEST(ModelConfig, TakesTransformersDefaultsForGenerationAsNothingSaid) {
  const auto config = ParseModelConfig(
      Config(R"("max_length":20,"min_length":0,"do_sample":false,"early_stopping":false,
             "num_beams":1,"num_beam_groups":1,"diversity_penalty":0.0,"temperature":1.0,
             "top_k":50,"top_p":1.0,"typical_p":1.0,"repetition_penalty":1.0,"length_penalty":1.0,
             "no_repeat_ngram_size":0,"encoder_no_repeat_ngram_size":0,"bad_words_ids":null,
             "num_return_sequences":1,"output_scores":false,"return_dict_in_generate":false,
             "forced_bos_token_id":null,"forced_eos_token_id":null,"remove_invalid_values":false,
             "exponential_decay_length_penalty":null,"suppress_tokens":null,
             "begin_suppress_tokens":null)"),
      std::nullopt);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->generation.do_sample.has_value());
  EXPECT_FALSE(config->generation.temperature.has_value());
  EXPECT_FALSE(config->generation.top_k.has_value());
  EXPECT_FALSE(config->generation.top_p.has_value());
  EXPECT_FALSE(config->generation.repetition_penalty.has_value());
  EXPECT_TRUE(ParseModelConfig(Config(R"("temperature":null,"top_p":1)"), std::nullopt).ok());
}

// A server goes by the length and the number that a request asks for.
TEST(ModelConfig, IgnoresHowMuchTransformersWouldGenerate) {
  EXPECT_TRUE(
      ParseModelConfig(Config(R"("max_length":2048,"num_return_sequences":3)"), std::nullopt).ok());
}

TEST(ModelConfig, AbsentKeysHaveTheDefaultsOfFla) {
  const auto absent = ParseModelConfig(Config(), std::nullopt);
  const auto written = ParseModelConfig(kGla13B, std::nullopt);
  ASSERT_TRUE(absent.ok()) << absent.status();
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(absent->hidden_size, written->hidden_size);
  EXPECT_EQ(absent->num_layers, written->num_layers);
  EXPECT_EQ(absent->vocab_size, written->vocab_size);
  EXPECT_EQ(Gla(*absent).trunk.intermediate_size, Gla(*written).trunk.intermediate_size);
  EXPECT_EQ(Gla(*absent).trunk.norm_eps, Gla(*written).trunk.norm_eps);
  EXPECT_EQ(absent->bos_token_id, written->bos_token_id);
  EXPECT_EQ(absent->generation.eos_token_ids, written->generation.eos_token_ids);
  EXPECT_EQ(Gla(*absent).heads.head_k_dim, Gla(*written).heads.head_k_dim);
  EXPECT_EQ(Gla(*absent).heads.head_v_dim, Gla(*written).heads.head_v_dim);
  EXPECT_EQ(Gla(*absent).conv.size, Gla(*written).conv.size);
}

TEST(ModelConfig, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseModelConfig(
      Config(R"("hidden_size":256,"num_hidden_layers":3,"num_heads":8,"num_kv_heads":2,)"
             R"("expand_k":1,"expand_v":2,"feature_map":"relu","use_short_conv":true,)"
             R"("conv_size":3,"use_output_gate":false,"clamp_min":-0.5,)"
             R"("elementwise_affine":false,"norm_eps":1e-5,"intermediate_size":648,)"
             R"("tie_word_embeddings":true,"vocab_size":512)"),
      std::nullopt);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->tie_word_embeddings);
  const GlaConfig& gla = Gla(*config);
  EXPECT_EQ(gla.heads.num_kv_heads, 2);
  EXPECT_EQ(gla.heads.head_k_dim, 32);
  EXPECT_EQ(gla.heads.head_v_dim, 64);
  EXPECT_EQ(gla.heads.KvKeyDim(), 64);
  EXPECT_EQ(gla.heads.KvValueDim(), 128);
  EXPECT_EQ(gla.feature_map, Activation::kRelu);
  EXPECT_TRUE(gla.conv.use);
  EXPECT_EQ(gla.conv.size, 3);
  EXPECT_FALSE(gla.use_output_gate);
  EXPECT_EQ(gla.clamp_min, -0.5F);
  EXPECT_FALSE(gla.elementwise_affine);
  EXPECT_FLOAT_EQ(gla.trunk.norm_eps, 1e-5);
  EXPECT_EQ(gla.trunk.intermediate_size, 648);
  EXPECT_EQ(gla.gate_norm, "g_norm");
}

TEST(ModelConfig, RoundsTheIntermediateSizeAsFlaDoes) {
  const auto size = [](const std::string& keys) {
    return Gla(ParseModelConfig(Config(keys), std::nullopt).value()).trunk.intermediate_size;
  };
  EXPECT_EQ(size(R"("hidden_size":1024,"hidden_ratio":4)"), 2816);  // 2730.67 up to 11 * 256
  EXPECT_EQ(size(R"("hidden_size":384,"hidden_ratio":2)"), 512);    // exactly 2 * 256
  EXPECT_EQ(size(R"("hidden_size":2048,"hidden_ratio":null)"), 5632);
  EXPECT_EQ(size(R"("hidden_ratio":7,"intermediate_size":96)"), 96);
}

TEST(ModelConfig, NamesTheNormAfterItsFusion) {
  const auto name = [](const std::string& keys) {
    const ModelConfig config = ParseModelConfig(Config(keys), std::nullopt).value();
    return std::string(Gla(config).gate_norm);
  };
  EXPECT_EQ(name(R"("fuse_norm":true)"), "g_norm_swish_gate");
  EXPECT_EQ(name(R"("fuse_norm":false)"), "g_norm");
  EXPECT_EQ(name(R"("fuse_norm":true,"use_output_gate":false)"), "g_norm");
}

TEST(ModelConfig, KnowsTheFeatureMapsOfFla) {
  const auto map = [](const std::string& name) {
    return Gla(ParseModelConfig(Config(R"("feature_map":")" + name + "\""), std::nullopt).value())
        .feature_map;
  };
  EXPECT_EQ(map("relu"), Activation::kRelu);
  EXPECT_EQ(map("sigmoid"), Activation::kSigmoid);
  EXPECT_EQ(map("silu"), Activation::kSilu);
  EXPECT_EQ(map("swish"), Activation::kSilu);
  EXPECT_EQ(map("sqrelu"), Activation::kSquareRelu);
  EXPECT_EQ(map("gelu"), Activation::kGelu);
  EXPECT_EQ(map("logsigmoid"), Activation::kLogSigmoid);
}

TEST(ModelConfig, IgnoresTheConvolutionSizeWithoutAConvolution) {
  EXPECT_TRUE(
      ParseModelConfig(Config(R"("use_short_conv":false,"conv_size":99)"), std::nullopt).ok());
  EXPECT_TRUE(ParseModelConfig(Config(R"("conv_size":null)"), std::nullopt).ok());
  EXPECT_FALSE(
      ParseModelConfig(Config(R"("use_short_conv":true,"conv_size":99)"), std::nullopt).ok());
}

struct Refused {
  std::string extra;
  std::vector<std::string> named;
};

TEST(ModelConfig, RefusesEachBadValueAndNamesKeyValueAndLimit) {
  const std::vector<Refused> table = {
      {R"("sliding_window":4096)", {"unknown key \"sliding_window\"", "4096"}},
      {R"("quantization_config":{"bits":4})", {"unknown key \"quantization_config\""}},
      {R"("conv_bias":true)", {"unknown key \"conv_bias\"", "true"}},
      {R"("gate_logit_normalizer":8)", {"unknown key \"gate_logit_normalizer\"", "8"}},
      {R"("hidden_size":"2048")", {"hidden_size", "\"2048\"", "whole number"}},
      {R"("hidden_size":2048.5)", {"hidden_size", "2048.5", "whole number"}},
      {R"("hidden_size":null)", {"hidden_size", "null"}},
      {R"("hidden_size":16392)", {"hidden_size", "16392", "16384"}},
      {R"("hidden_size":-8)", {"hidden_size", "-8", "from 8"}},
      {R"("hidden_size":100)", {"hidden_size", "100", "multiple of 8"}},
      {R"("hidden_size":18446744073709551615)", {"hidden_size", "18446744073709551615", "16384"}},
      {R"("num_hidden_layers":0)", {"num_hidden_layers", "0", "1"}},
      {R"("num_hidden_layers":257)", {"num_hidden_layers", "257", "256"}},
      {R"("num_heads":0)", {"num_heads", "0", "1 to 256"}},
      {R"("num_heads":257)", {"num_heads", "257", "256"}},
      {R"("num_kv_heads":3)", {"num_kv_heads", "3", "num_heads, 4"}},
      {R"("num_kv_heads":8)", {"num_kv_heads", "8", "1 to 4"}},
      {R"("vocab_size":1000001)", {"vocab_size", "1000001", "1000000"}},
      {R"("expand_k":0)", {"expand_k", "0"}},
      {R"("expand_k":0.3333)", {"expand_k", "0.3333", "no whole number"}},
      {R"("hidden_size":2056,"expand_k":1)", {"expand_k", "514", "16 to 512"}},
      {R"("hidden_size":160,"expand_k":1)", {"expand_k", "40", "multiple of 16"}},
      {R"("expand_v":2)", {"expand_v", "1024", "512"}},
      {R"("intermediate_size":100)", {"intermediate_size", "100", "multiple of 8"}},
      {R"("intermediate_size":131080)", {"intermediate_size", "131080", "131072"}},
      {R"("hidden_size":16384,"expand_k":0.125,"expand_v":0.125,"hidden_ratio":64)",
       {"hidden_ratio", "64", "131072"}},
      {R"("use_short_conv":true,"conv_size":1)", {"conv_size", "1", "2 to 8"}},
      {R"("use_short_conv":true,"conv_size":9)", {"conv_size", "9", "2 to 8"}},
      {R"("use_short_conv":true,"conv_size":null)", {"conv_size is null", "2 to 8"}},
      {R"("use_short_conv":true,"share_conv_kernel":true)", {"share_conv_kernel"}},
      {R"("use_short_conv":1)", {"use_short_conv", "1", "true or false"}},
      {R"("feature_map":"bias_gelu")", {"feature_map", "\"bias_gelu\"", "sqrelu"}},
      {R"("feature_map":"elu")", {"feature_map", "\"elu\""}},
      {R"("feature_map":3)", {"feature_map", "3", "string"}},
      {R"("hidden_act":"gelu")", {"hidden_act", "\"gelu\"", "swish"}},
      {R"("hidden_act":"powlu")", {"hidden_act", "\"powlu\""}},
      {R"("clamp_min":0.5)", {"clamp_min", "0.5", "to 0"}},
      {R"("norm_eps":0)", {"norm_eps", "0"}},
      {R"("norm_eps":1)", {"norm_eps", "1", "0.1"}},
      {R"("attn":{"layers":[1],"num_heads":4})", {"attn", "layers", "softmax"}},
      {R"("attnres_block_size":2)", {"attnres_block_size", "2"}},
      {R"("use_gk":false)", {"use_gk", "false"}},
      {R"("use_gv":true)", {"use_gv", "true"}},
      {R"("attn_mode":"parallel")", {"attn_mode", "\"parallel\""}},
      {R"("bos_token_id":32000)", {"bos_token_id", "32000", "31999"}},
      {R"("eos_token_id":32000)", {"eos_token_id", "32000", "31999"}},
      {R"("eos_token_id":[2,-1])", {"eos_token_id", "[2,-1]", "31999"}},
      {R"("eos_token_id":"</s>")", {"eos_token_id", "</s>"}},
      {R"("use_gk":true,"use_gk":true)", {"\"use_gk\" twice"}},
  };
  for (const Refused& refused : table) {
    SCOPED_TRACE(refused.extra);
    const auto config = ParseModelConfig(Config(refused.extra), std::nullopt);
    ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << config.status();
    EXPECT_THAT(Message(config.status()), HasSubstr("config.json"));
    for (const std::string& name : refused.named) {
      EXPECT_THAT(Message(config.status()), HasSubstr(name));
    }
  }
}

TEST(ModelConfig, RefusesOtherFamiliesByName) {
  const auto llama = ParseModelConfig(R"({"model_type":"llama"})", std::nullopt);
  EXPECT_EQ(llama.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(llama.status()),
              AllOf(HasSubstr("model_type"), HasSubstr("\"llama\""), HasSubstr("gla")));
  const auto none = ParseModelConfig("{}", std::nullopt);
  EXPECT_THAT(Message(none.status()), AllOf(HasSubstr("model_type"), HasSubstr("absent")));
}

TEST(ModelConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"", "{", "[]", "7", "{\"model_type\":\"gla\"}x"}) {
    SCOPED_TRACE(text);
    const auto config = ParseModelConfig(text, std::nullopt);
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(config.status()), HasSubstr("config.json"));
  }
  const std::string deep = Config("\"attn\":" + std::string(100, '[') + std::string(100, ']'));
  EXPECT_THAT(Message(ParseModelConfig(deep, std::nullopt).status()), HasSubstr("32 levels"));
  std::string wide = "\"attn\":[0";
  for (int i = 0; i < 100'000; ++i) wide += ",0";
  EXPECT_THAT(Message(ParseModelConfig(Config(wide + "]"), std::nullopt).status()),
              HasSubstr("100000 JSON values"));
}

TEST(ModelConfig, ReadsTokenIds) {
  const auto config =
      ParseModelConfig(Config(R"("bos_token_id":null,"eos_token_id":[7,5,7])"), std::nullopt);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->bos_token_id.has_value());
  EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(5, 7));
  const auto none = ParseModelConfig(Config(R"("eos_token_id":null)"), std::nullopt);
  EXPECT_THAT(none.value().generation.eos_token_ids, IsEmpty());
}

TEST(GenerationDefaults, AreReadFromTheirOwnFile) {
  const auto config = ParseModelConfig(
      Config(R"("eos_token_id":9)"),
      R"({"_from_model_config":true,"do_sample":true,"temperature":0.7,"top_p":0.9,"top_k":40,)"
      R"("min_p":0.05,"repetition_penalty":1.1,"eos_token_id":[3,4],"max_length":2048})");
  ASSERT_TRUE(config.ok()) << config.status();
  const GenerationDefaults& defaults = config->generation;
  EXPECT_EQ(defaults.do_sample, true);
  EXPECT_EQ(defaults.temperature, 0.7F);
  EXPECT_EQ(defaults.top_p, 0.9F);
  EXPECT_EQ(defaults.top_k, 40);
  EXPECT_EQ(defaults.min_p, 0.05F);
  EXPECT_EQ(defaults.repetition_penalty, 1.1F);
  EXPECT_THAT(defaults.eos_token_ids, ElementsAre(3, 4));
}

TEST(GenerationDefaults, OfConfigJsonAreRefusedUnlessTheirOwnFileHasThem) {
  const std::pair<const char*, const char*> cases[] = {
      {"do_sample", "true"}, {"temperature", "0.6"},        {"top_k", "0"},
      {"top_p", "0.9"},      {"repetition_penalty", "1.2"},
  };
  for (const auto& [key, value] : cases) {
    const std::string pair = "\"" + std::string(key) + "\":" + value;
    const std::string null = "{\"" + std::string(key) + "\":null}";
    for (const auto& generation : {std::optional<std::string>(), std::optional<std::string>("{}"),
                                   std::optional<std::string>(null)}) {
      EXPECT_THAT(Message(ParseModelConfig(Config(pair), generation).status()),
                  AllOf(HasSubstr("config.json: " + std::string(key) + " is " + value),
                        HasSubstr("put it into generation_config.json")));
    }
    EXPECT_TRUE(ParseModelConfig(Config(pair), "{" + pair + "}").ok()) << key;
  }
  const auto both = ParseModelConfig(Config(R"("temperature":0.6)"), R"({"temperature":0.7})");
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->generation.temperature, 0.7F);
}

TEST(GenerationDefaults, OfConfigJsonAreRefusedWhereNoneOtherIsSupported) {
  const std::vector<Refused> table = {
      {R"("num_beams":4)", {"num_beams is 4", "it must be 1"}},
      {R"("typical_p":0.5)", {"typical_p is 0.5", "it must be 1.0"}},
      {R"("min_length":10)", {"min_length is 10", "it must be 0"}},
      {R"("no_repeat_ngram_size":3)", {"no_repeat_ngram_size is 3", "it must be 0"}},
      {R"("bad_words_ids":[[5]])", {"bad_words_ids is [[5]]", "it must be null"}},
      {R"("suppress_tokens":[5])", {"suppress_tokens is [5]", "it must be null"}},
      {R"("begin_suppress_tokens":[5])", {"begin_suppress_tokens is [5]"}},
      {R"("forced_bos_token_id":1)", {"forced_bos_token_id is 1", "it must be null"}},
      {R"("forced_eos_token_id":2)", {"forced_eos_token_id is 2"}},
      {R"("exponential_decay_length_penalty":[9,1.1])", {"exponential_decay_length_penalty is"}},
      {R"("early_stopping":true)", {"early_stopping is true", "it must be false"}},
  };
  for (const Refused& refused : table) {
    SCOPED_TRACE(refused.extra);
    // Their own file is no place for them: it would not be looked at.
    for (const auto& generation :
         {std::optional<std::string>(), std::optional<std::string>("{" + refused.extra + "}")}) {
      const auto config = ParseModelConfig(Config(refused.extra), generation);
      EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
      for (const std::string& name : refused.named) {
        EXPECT_THAT(Message(config.status()), HasSubstr(name));
      }
    }
  }
}

TEST(GenerationDefaults, TakesNoMoreOfTheTopThanThereAreTokens) {
  const auto config = ParseModelConfig(Config(R"("vocab_size":48)"), R"({"top_k":50})");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->generation.top_k, 48);
}

TEST(GenerationDefaults, SayNothingWhereTheFileDoes) {
  for (const char* text : {"{}", R"({"eos_token_id":null,"temperature":null})"}) {
    const auto config = ParseModelConfig(Config(R"("eos_token_id":9)"), text);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_FALSE(config->generation.temperature.has_value());
    EXPECT_FALSE(config->generation.top_k.has_value());
    EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(9));
  }
}

TEST(GenerationDefaults, RefusesEachBadValue) {
  const std::vector<Refused> table = {
      {R"({"temperature":-1})", {"temperature", "-1", "0 to 100"}},
      {R"({"temperature":"hot"})", {"temperature", "hot"}},
      {R"({"top_p":1.5})", {"top_p", "1.5", "to 1"}},
      {R"({"top_p":0})", {"top_p", "0"}},
      {R"({"min_p":-0.1})", {"min_p", "-0.1"}},
      {R"({"top_k":-1})", {"top_k", "-1"}},
      {R"({"top_k":2.5})", {"top_k", "2.5"}},
      {R"({"repetition_penalty":0})", {"repetition_penalty", "0"}},
      {R"({"repetition_penalty":11})", {"repetition_penalty", "11", "10"}},
      {R"({"eos_token_id":32000})", {"eos_token_id", "32000"}},
      {"[]", {"object"}},
      {"", {"not valid JSON"}},
  };
  for (const Refused& refused : table) {
    SCOPED_TRACE(refused.extra);
    const auto config = ParseModelConfig(Config(), refused.extra);
    ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << config.status();
    EXPECT_THAT(Message(config.status()), HasSubstr("generation_config.json"));
    for (const std::string& name : refused.named) {
      EXPECT_THAT(Message(config.status()), HasSubstr(name));
    }
  }
}

TEST(ParseModelConfig, NamesNumbersThatJsonHasNot) {
  const auto refusal = [](const std::string& config, std::optional<std::string> generation) {
    return Message(ParseModelConfig(config, generation).status());
  };
  EXPECT_THAT(refusal(Config(R"("norm_eps":NaN)"), std::nullopt),
              AllOf(HasSubstr("config.json"), HasSubstr("norm_eps"), HasSubstr("JSON has no NaN")));
  EXPECT_THAT(refusal(Config(R"("clamp_min":-Infinity)"), std::nullopt),
              AllOf(HasSubstr("clamp_min"), HasSubstr("JSON has no -Infinity")));
  EXPECT_THAT(refusal(Config(), R"({"temperature":Infinity})"),
              AllOf(HasSubstr("generation_config.json"), HasSubstr("JSON has no Infinity")));
  // One family has keys that may be infinite, so that the word is read, but not everywhere.
  EXPECT_THAT(refusal(Config(R"("norm_eps":Infinity)"), std::nullopt),
              HasSubstr(R"(config.json: norm_eps is "Infinity"; it must be a number)"));
}

TEST(ReadModelConfig, ReadsADirectory) {
  const ScratchDirectory scratch;
  scratch.Write("config.json", kGla13B);
  const auto alone = ReadModelConfig(scratch.path());
  ASSERT_TRUE(alone.ok()) << alone.status();
  EXPECT_FALSE(alone->generation.temperature.has_value());
  scratch.Write("generation_config.json", R"({"temperature":0.5})");
  const auto both = ReadModelConfig(scratch.path());
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->generation.temperature, 0.5F);
}

TEST(ReadModelConfig, NamesTheDirectoryInItsErrors) {
  const auto missing = ReadModelConfig("/nowhere/model");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr("/nowhere/model"));

  const ScratchDirectory scratch;
  const auto empty = ReadModelConfig(scratch.path());
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(empty.status()), HasSubstr("config.json"));

  scratch.Write("config.json", "{");
  const auto broken = ReadModelConfig(scratch.path());
  EXPECT_EQ(broken.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(broken.status()), HasSubstr(scratch.path().string()));

  scratch.Write("config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_THAT(Message(ReadModelConfig(scratch.path()).status()),
              AllOf(HasSubstr("1048577"), HasSubstr("1048576")));
}

}  // namespace
}  // namespace sluice
