#include "engine/models/mamba_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <variant>

#include "engine/model_config.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

absl::StatusOr<ModelConfig> Parse(const std::string& keys) {
  return ParseModelConfig(R"({"model_type":"mamba")" + (keys.empty() ? "" : "," + keys) + "}",
                          std::nullopt);
}

MambaConfig Mamba(const std::string& keys) {
  const auto config = Parse(keys);
  EXPECT_TRUE(config.ok()) << config.status();
  return std::get<MambaConfig>(config.value().family);
}

std::string Refusal(const std::string& keys) {
  const auto config = Parse(keys);
  EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << keys;
  return std::string(config.status().message());
}

// The config.json of state-spaces/mamba-2.8b-hf in its keys, and with the shape of that model.
constexpr const char* kMamba28B = R"(
  "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 5120,
  "d_model": 2560, "eos_token_id": 0, "expand": 2, "fused_add_norm": true, "hidden_act": "silu",
  "hidden_size": 2560, "initializer_range": 0.1, "intermediate_size": 5120,
  "layer_norm_epsilon": 1e-05, "n_layer": 64, "num_hidden_layers": 64, "pad_token_id": 0,
  "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": false, "residual_in_fp32": true,
  "rms_norm": true, "ssm_cfg": {}, "state_size": 16, "time_step_floor": 0.0001,
  "time_step_init_scheme": "random", "time_step_max": 0.1, "time_step_min": 0.001,
  "time_step_rank": 160, "time_step_scale": 1.0, "torch_dtype": "float32",
  "transformers_version": "4.39.0", "use_bias": false, "use_cache": true, "use_conv_bias": true,
  "vocab_size": 50280)";

TEST(MambaConfig, ReadsAPublishedConfig) {
  const auto config = Parse(kMamba28B);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "mamba");
  EXPECT_EQ(config->hidden_size, 2560);
  EXPECT_EQ(config->num_layers, 64);
  EXPECT_EQ(config->vocab_size, 50280);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->bos_token_id, 0);
  EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(0));
  const auto& mamba = std::get<MambaConfig>(config->family);
  EXPECT_EQ(mamba.trunk.inner_size, 5120);
  EXPECT_EQ(mamba.trunk.conv_kernel, 4);
  EXPECT_FLOAT_EQ(mamba.trunk.norm_eps, 1e-5);
  EXPECT_FALSE(mamba.trunk.use_bias);
  EXPECT_TRUE(mamba.trunk.use_conv_bias);
  EXPECT_EQ(mamba.state_size, 16);
  EXPECT_EQ(mamba.dt_rank, 160);
}

TEST(MambaConfig, AbsentKeysHaveTheDefaultsOfTransformers) {
  for (const char* keys : {"", R"("layer_norm_epsilon":1e-5)", R"("time_step_rank":"auto")"}) {
    const auto config = Parse(keys);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->hidden_size, 768);
    EXPECT_EQ(config->num_layers, 32);
    EXPECT_EQ(config->vocab_size, 50280);
    EXPECT_TRUE(config->tie_word_embeddings);
    EXPECT_EQ(config->bos_token_id, 0);
    EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(0));
    const auto& mamba = std::get<MambaConfig>(config->family);
    EXPECT_EQ(mamba.trunk.inner_size, 1536);
    EXPECT_FLOAT_EQ(mamba.trunk.norm_eps, 1e-5);
    EXPECT_EQ(mamba.state_size, 16);
    EXPECT_EQ(mamba.dt_rank, 48);
  }
}

TEST(MambaConfig, AbsentKeysHaveTheDefaultsOfFla) {
  for (const char* keys : {R"("norm_eps":1e-5)", R"("dt_rank":"auto")", R"("fuse_norm":true)",
                           R"("fuse_cross_entropy":true)", R"("dt_min":0.001)",
                           R"("norm_eps":1e-5,"time_step_rank":"auto")"}) {
    const auto config = Parse(keys);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->hidden_size, 2048);
    EXPECT_EQ(config->num_layers, 48);
    EXPECT_EQ(config->vocab_size, 32000);
    EXPECT_FALSE(config->tie_word_embeddings);
    EXPECT_EQ(config->bos_token_id, 1);
    EXPECT_THAT(config->generation.eos_token_ids, ElementsAre(2));
    const auto& mamba = std::get<MambaConfig>(config->family);
    EXPECT_EQ(mamba.trunk.inner_size, 4096);
    EXPECT_EQ(mamba.dt_rank, 128);
  }
}

TEST(MambaConfig, ReadsEveryKeyThatChangesTheFunction) {
  for (const std::string eps : {"norm_eps", "layer_norm_epsilon"}) {
    const MambaConfig mamba = Mamba(
        "\"" + eps + R"(":1e-3,"hidden_size":72,"expand":3,"state_size":24,"conv_kernel":3,)" +
        R"("use_bias":true,"use_conv_bias":false,"hidden_act":"swish",)" +
        R"("num_hidden_layers":3,"vocab_size":99,"tie_word_embeddings":true)");
    EXPECT_FLOAT_EQ(mamba.trunk.norm_eps, 1e-3);
    EXPECT_EQ(mamba.trunk.inner_size, 216);
    EXPECT_EQ(mamba.state_size, 24);
    EXPECT_EQ(mamba.trunk.conv_kernel, 3);
    EXPECT_TRUE(mamba.trunk.use_bias);
    EXPECT_FALSE(mamba.trunk.use_conv_bias);
    EXPECT_TRUE(mamba.trunk.tie_word_embeddings);
    EXPECT_EQ(mamba.dt_rank, 5);  // 72 / 16, rounded up
  }
  EXPECT_EQ(Mamba(R"("hidden_size":48,"expand":1.5)").trunk.inner_size, 72);
  EXPECT_EQ(Mamba(R"("norm_eps":1e-5,"dt_rank":7)").dt_rank, 7);
  EXPECT_EQ(Mamba(R"("norm_eps":1e-5,"time_step_rank":7)").dt_rank, 7);
  EXPECT_EQ(Mamba(R"("time_step_rank":7,"dt_rank":7)").dt_rank, 7);
}

// Both libraries write it, as `expand` makes it; where a file has another, they go by that.
TEST(MambaConfig, GoesByTheIntermediateSizeWhereOneIsGiven) {
  for (const std::string eps : {"norm_eps", "layer_norm_epsilon"}) {
    const std::string keys = "\"" + eps + R"(":1e-5,"hidden_size":72,"expand":3,)";
    EXPECT_EQ(Mamba(keys + R"("intermediate_size":40)").trunk.inner_size, 40);
    EXPECT_EQ(Mamba(keys + R"("intermediate_size":null)").trunk.inner_size, 216);
    EXPECT_THAT(Refusal(keys + R"("intermediate_size":36)"), HasSubstr("intermediate_size is 36"));
  }
  // What `expand` would make, 156, is no width that is supported.
  const std::string odd = R"("hidden_size":104,"expand":1.5)";
  EXPECT_EQ(Mamba(odd + R"(,"intermediate_size":160)").trunk.inner_size, 160);
  EXPECT_EQ(Mamba(R"("expand":1e6,"intermediate_size":160)").trunk.inner_size, 160);
  EXPECT_THAT(Refusal(odd + R"(,"intermediate_size":null)"), HasSubstr("expand is 1.5"));
}

TEST(MambaConfig, RefusesAFileOfBothFormats) {
  EXPECT_THAT(Refusal(R"("norm_eps":1e-5,"layer_norm_epsilon":1e-5)"),
              HasSubstr("layer_norm_epsilon is there as well"));
  EXPECT_THAT(Refusal(R"("time_step_rank":7,"dt_rank":8)"), HasSubstr("with another value"));
}

TEST(MambaConfig, RefusesWhatIsOutOfRangeByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("hidden_size":36)", "hidden_size"},
      {R"("hidden_size":16392)", "hidden_size"},
      {R"("state_size":12)", "state_size"},
      {R"("state_size":264)", "state_size"},
      {R"("conv_kernel":1)", "conv_kernel"},
      {R"("conv_kernel":9)", "conv_kernel"},
      {R"("expand":0.01)", "expand"},
      {R"("expand":100)", "expand"},
      {R"("hidden_size":8,"expand":1.5)", "expand"},
      {R"("time_step_rank":0)", "time_step_rank"},
      {R"("time_step_rank":"all")", "time_step_rank"},
      {R"("hidden_act":"gelu")", "hidden_act"},
      {R"("layer_norm_epsilon":0)", "layer_norm_epsilon"},
      {R"("norm_eps":1)", "norm_eps"},
      {R"("num_hidden_layers":257)", "num_hidden_layers"},
      {R"("vocab_size":7)", "vocab_size"},
      {R"("mixer_rms_eps":1e-6)", "mixer_rms_eps"},
  };
  for (const auto& [keys, key] : cases) {
    EXPECT_THAT(Refusal(keys), HasSubstr(std::string("config.json: ")));
    EXPECT_THAT(Refusal(keys), HasSubstr(key));
  }
  const auto falcon = ParseModelConfig(R"({"model_type":"falcon_mamba"})", std::nullopt);
  EXPECT_THAT(std::string(falcon.status().message()), HasSubstr("model_type"));
}

}  // namespace
}  // namespace sluice
