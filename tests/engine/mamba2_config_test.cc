#include "engine/models/mamba2_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <variant>

#include "engine/model_config.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ModelConfig> Parse(const std::string& keys) {
  return ParseModelConfig(R"({"model_type":"mamba2")" + (keys.empty() ? "" : "," + keys) + "}",
                          std::nullopt);
}

Mamba2Config Mamba2(const std::string& keys) {
  const auto config = Parse(keys);
  EXPECT_TRUE(config.ok()) << config.status();
  return std::get<Mamba2Config>(config.value().family);
}

std::string Refusal(const std::string& keys) {
  const auto config = Parse(keys);
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << keys;
  return std::string(config.status().message());
}

// The config.json of mistralai/Mamba-Codestral-7B-v0.1 in its keys, and with the shape of that
// model. It says norm_before_gate, at which transformers does not look.
constexpr const char* kCodestral7B = R"(
  "architectures": ["Mamba2ForCausalLM"], "bos_token_id": 0, "chunk_size": 256, "conv_kernel": 4,
  "eos_token_id": 0, "expand": 2, "head_dim": 64, "hidden_act": "silu", "hidden_size": 4096,
  "initializer_range": 0.1, "intermediate_size": 8192, "layer_norm_epsilon": 1e-05, "n_groups": 8,
  "norm_before_gate": true, "num_heads": 128, "num_hidden_layers": 64, "pad_token_id": 0,
  "rescale_prenorm_residual": false, "residual_in_fp32": true, "rms_norm": true,
  "state_size": 128, "tie_word_embeddings": false, "time_step_floor": 0.0001,
  "time_step_init_scheme": "random", "time_step_limit": [0.0, Infinity], "time_step_max": 0.1,
  "time_step_min": 0.001, "time_step_rank": 256, "time_step_scale": 1.0,
  "torch_dtype": "bfloat16", "transformers_version": "4.44.0", "use_bias": false,
  "use_cache": true, "use_conv_bias": true, "vocab_size": 32768)";

TEST(Mamba2Config, ReadsAPublishedConfig) {
  const auto config = Parse(kCodestral7B);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "mamba2");
  EXPECT_EQ(config->hidden_size, 4096);
  EXPECT_EQ(config->num_layers, 64);
  EXPECT_EQ(config->vocab_size, 32768);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->bos_token_id, 0);
  EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(0));
  const auto& mamba = std::get<Mamba2Config>(config->family);
  EXPECT_EQ(mamba.trunk.inner_size, 8192);
  EXPECT_EQ(mamba.num_heads, 128);
  EXPECT_EQ(mamba.head_dim, 64);
  EXPECT_EQ(mamba.n_groups, 8);
  EXPECT_EQ(mamba.state_size, 128);
  EXPECT_EQ(mamba.dt_min, 0);
  EXPECT_TRUE(std::isinf(mamba.dt_max));
  EXPECT_TRUE(mamba.rmsnorm);
  EXPECT_FALSE(mamba.norm_before_gate);
  EXPECT_FALSE(mamba.skip_per_channel);
}

TEST(Mamba2Config, AbsentKeysHaveTheDefaultsOfTransformers) {
  for (const char* keys : {"", R"("layer_norm_epsilon":1e-5)", R"("time_step_limit":[0,1])"}) {
    const auto config = Parse(keys);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->num_layers, 64);
    EXPECT_EQ(config->vocab_size, 32768);
    EXPECT_FALSE(config->tie_word_embeddings);
    EXPECT_EQ(config->bos_token_id, 0);
    EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(2));
    const auto& mamba = std::get<Mamba2Config>(config->family);
    EXPECT_EQ(mamba.trunk.hidden_size, 4096);
    EXPECT_EQ(mamba.num_heads, 128);
    EXPECT_EQ(mamba.head_dim, 64);
    EXPECT_EQ(mamba.n_groups, 8);
    EXPECT_EQ(mamba.state_size, 128);
  }
}

TEST(Mamba2Config, AbsentKeysHaveTheDefaultsOfFla) {
  for (const char* keys : {R"("norm_eps":1e-5)", R"("dt_limit":[0,1])", R"("rmsnorm":true)"}) {
    const auto config = Parse(keys);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->num_layers, 48);
    EXPECT_EQ(config->vocab_size, 32000);
    EXPECT_FALSE(config->tie_word_embeddings);
    EXPECT_EQ(config->bos_token_id, 1);
    EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(2));
    const auto& mamba = std::get<Mamba2Config>(config->family);
    EXPECT_EQ(mamba.trunk.hidden_size, 2048);
    EXPECT_EQ(mamba.num_heads, 64);
    EXPECT_EQ(mamba.head_dim, 64);
    EXPECT_EQ(mamba.n_groups, 1);
    EXPECT_EQ(mamba.state_size, 128);
    EXPECT_TRUE(mamba.rmsnorm);
    EXPECT_FALSE(mamba.norm_before_gate);
  }
}

TEST(Mamba2Config, ReadsEveryKeyThatChangesTheFunction) {
  const Mamba2Config mamba = Mamba2(
      R"("norm_eps":1e-3,"hidden_size":96,"expand":2,"head_dim":16,"num_heads":12,"n_groups":3,)"
      R"("state_size":48,"conv_kernel":2,"use_bias":true,"use_conv_bias":false,"rmsnorm":false,)"
      R"("norm_before_gate":true,"D_has_hdim":true,"dt_limit":[0.01,0.5],"A_init_range":[1,16])");
  EXPECT_FLOAT_EQ(mamba.trunk.norm_eps, 1e-3);
  EXPECT_EQ(mamba.num_heads, 12);
  EXPECT_EQ(mamba.head_dim, 16);
  EXPECT_EQ(mamba.n_groups, 3);
  EXPECT_EQ(mamba.state_size, 48);
  EXPECT_EQ(mamba.trunk.conv_kernel, 2);
  EXPECT_TRUE(mamba.trunk.use_bias);
  EXPECT_FALSE(mamba.trunk.use_conv_bias);
  EXPECT_FALSE(mamba.rmsnorm);
  EXPECT_TRUE(mamba.norm_before_gate);
  EXPECT_TRUE(mamba.skip_per_channel);
  EXPECT_FLOAT_EQ(mamba.dt_min, 0.01);
  EXPECT_FLOAT_EQ(mamba.dt_max, 0.5);
}

TEST(Mamba2Config, ReadsInfiniteTimeStepsHoweverTheyAreWritten) {
  for (const std::string key : {"time_step_limit", "dt_limit"}) {
    for (const std::string infinity :
         {"Infinity", R"("Infinity")", R"({"__float__":"Infinity"})", "1e300"}) {
      const Mamba2Config mamba = Mamba2("\"" + key + "\":[0.5," + infinity + "]");
      EXPECT_EQ(mamba.dt_min, 0.5F);
      EXPECT_TRUE(std::isinf(mamba.dt_max));
    }
  }
  // Old files of fla have transformers' name.
  EXPECT_EQ(Mamba2(R"("norm_eps":1e-5,"time_step_limit":[0,2])").dt_max, 2);
}

TEST(Mamba2Config, RefusesWhatIsOutOfRangeByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("norm_eps":1e-5,"layer_norm_epsilon":1e-5)", "layer_norm_epsilon"},
      {R"("head_dim":24)", "head_dim"},
      {R"("head_dim":528)", "head_dim"},
      {R"("head_dim":48)", "head_dim"},
      {R"("head_dim":16)", "head_dim"},  // 512 heads
      {R"("num_heads":64)", "num_heads"},
      {R"("n_groups":3)", "n_groups"},
      {R"("n_groups":0)", "n_groups"},
      {R"("state_size":24)", "state_size"},
      {R"("state_size":528)", "state_size"},
      {R"("time_step_limit":[0])", "time_step_limit"},
      {R"("time_step_limit":[1,0.5])", "time_step_limit"},
      {R"("time_step_limit":[-1,1])", "time_step_limit"},
      {R"("time_step_limit":[Infinity,Infinity])", "time_step_limit"},
      {R"("time_step_limit":[0,{"__float__":"NaN"}])", "time_step_limit"},
      {R"("time_step_limit":0)", "time_step_limit"},
      {R"("time_step_limit":[0,1],"dt_limit":[0,2])", "time_step_limit"},
      {R"("conv_kernel":9)", "conv_kernel"},
      {R"("hidden_act":"relu")", "hidden_act"},
      {R"("rmsnorm":1)", "rmsnorm"},
      {R"("attention":1)", "attention"},
  };
  for (const auto& [keys, key] : cases) {
    EXPECT_THAT(Refusal(keys), HasSubstr("config.json: "));
    EXPECT_THAT(Refusal(keys), HasSubstr(key));
  }
}

}  // namespace
}  // namespace sluice
