#include "engine/models/retnet_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/parse_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Keys(const std::string& extra) { return R"("model_type":"retnet")" + extra; }

TEST(RetNetConfig, AbsentKeysHaveTheDefaultsOfFla) {
  const auto config = ParseFamily<RetNetConfig>(Keys(""));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trunk.hidden_size, 2048);
  EXPECT_EQ(config->trunk.num_layers, 24);
  EXPECT_EQ(config->trunk.vocab_size, 32000);
  EXPECT_EQ(config->trunk.intermediate_size, 2816);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-6F);
  EXPECT_FALSE(config->trunk.tie_word_embeddings);
  EXPECT_EQ(config->heads.num_heads, 8);
  EXPECT_EQ(config->heads.num_kv_heads, 8);
  EXPECT_EQ(config->heads.head_k_dim, 256);
  EXPECT_EQ(config->heads.head_v_dim, 512);
  EXPECT_EQ(config->feature_map, Activation::kNone);
  EXPECT_TRUE(config->use_output_gate);
  EXPECT_EQ(config->gate_norm, "g_norm_swish_gate");
  EXPECT_TRUE(config->elementwise_affine);
}

TEST(RetNetConfig, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<RetNetConfig>(
      Keys(R"(,"hidden_size":128,"num_hidden_layers":3,"num_heads":4,"num_kv_heads":2,)"
           R"("expand_k":0.5,"expand_v":1,"hidden_ratio":null,"feature_map":"gelu_new",)"
           R"("use_output_gate":false,"elementwise_affine":null,"norm_eps":1e-5,)"
           R"("tie_word_embeddings":true,"vocab_size":512)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.num_kv_heads, 2);
  EXPECT_EQ(config->heads.head_k_dim, 16);
  EXPECT_EQ(config->heads.head_v_dim, 32);
  EXPECT_EQ(config->trunk.intermediate_size, 512);  // a ratio of 4
  EXPECT_EQ(config->feature_map, Activation::kGelu);
  EXPECT_FALSE(config->use_output_gate);
  EXPECT_EQ(config->gate_norm, "g_norm");
  EXPECT_FALSE(config->elementwise_affine);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-5F);
  EXPECT_TRUE(config->trunk.tie_word_embeddings);
  EXPECT_EQ(ParseFamily<RetNetConfig>(Keys(R"(,"fuse_norm":false)"))->gate_norm, "g_norm");
}

TEST(RetNetConfig, KnowsTheFeatureMapsOfTransformers) {
  const auto map = [](const std::string& name) {
    return ParseFamily<RetNetConfig>(Keys(R"(,"feature_map":")" + name + "\""))->feature_map;
  };
  EXPECT_EQ(map("linear"), Activation::kNone);
  EXPECT_EQ(map("relu"), Activation::kRelu);
  EXPECT_EQ(map("relu2"), Activation::kSquareRelu);
  EXPECT_EQ(map("sigmoid"), Activation::kSigmoid);
  EXPECT_EQ(map("silu"), Activation::kSilu);
  EXPECT_EQ(map("swish"), Activation::kSilu);
  EXPECT_EQ(map("tanh"), Activation::kTanh);
  EXPECT_EQ(map("gelu_pytorch_tanh"), Activation::kGelu);
  EXPECT_EQ(map("gelu_accurate"), Activation::kGelu);
  EXPECT_THAT(Refusal(Keys(R"(,"feature_map":"gelu")")),
              StartsWith(R"(config.json: feature_map is "gelu")"));
}

// fla has no convolution there, whatever these say.
TEST(RetNetConfig, IgnoresTheConvolution) {
  EXPECT_EQ(Refusal(Keys(R"(,"use_short_conv":true,"conv_size":4,"share_conv_kernel":true)")),
            "accepted");
}

TEST(RetNetConfig, RefusesOtherFunctionsByName) {
  const auto refusal = [](const std::string& keys) { return Refusal(Keys("," + keys)); };
  EXPECT_THAT(refusal(R"("num_heads":4,"expand_v":1)"),
              StartsWith("config.json: expand_k is absent; it makes 512"));
  EXPECT_THAT(refusal(R"("num_kv_heads":3)"), HasSubstr("num_kv_heads is 3"));
  EXPECT_THAT(refusal(R"("attn":{"layers":[1]})"), HasSubstr("attn is"));
  EXPECT_THAT(refusal(R"("attnres_block_size":2)"), HasSubstr("attnres_block_size is 2"));
  EXPECT_THAT(refusal(R"("hidden_act":"gelu")"), HasSubstr("hidden_act is \"gelu\""));
  EXPECT_THAT(refusal(R"("attn_mode":"other")"), HasSubstr("attn_mode is \"other\""));
  EXPECT_THAT(refusal(R"("gate_fn":"swish")"), HasSubstr("unknown key \"gate_fn\""));
  EXPECT_EQ(refusal(R"("attn_mode":"parallel")"), "accepted");
}

}  // namespace
}  // namespace sluice
