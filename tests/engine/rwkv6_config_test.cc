#include "engine/models/rwkv6_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/parse_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string Keys(const std::string& extra) { return R"("model_type":"rwkv6")" + extra; }

TEST(Rwkv6Config, AbsentKeysHaveTheDefaultsOfFla) {
  const auto config = ParseFamily<Rwkv6Config>(Keys(""));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trunk.hidden_size, 2048);
  EXPECT_EQ(config->trunk.num_layers, 24);
  EXPECT_EQ(config->trunk.vocab_size, 32000);
  EXPECT_EQ(config->trunk.intermediate_size, 7168);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-5F);
  EXPECT_FALSE(config->trunk.tie_word_embeddings);
  EXPECT_EQ(config->heads.num_heads, 4);
  EXPECT_EQ(config->heads.num_kv_heads, 4);
  EXPECT_EQ(config->heads.head_k_dim, 256);
  EXPECT_EQ(config->heads.head_v_dim, 512);
  EXPECT_EQ(config->proj_low_rank_dim, 32);
  EXPECT_EQ(config->gate_low_rank_dim, 64);
  EXPECT_EQ(config->hidden_act, Activation::kSquareRelu);
  EXPECT_TRUE(config->norm_first);
  EXPECT_TRUE(config->norm_bias);
}

TEST(Rwkv6Config, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<Rwkv6Config>(
      Keys(R"(,"hidden_size":128,"num_hidden_layers":3,"num_heads":2,"expand_k":1,"expand_v":2,)"
           R"("intermediate_size":200,"proj_low_rank_dim":5,"gate_low_rank_dim":7,)"
           R"("hidden_act":"relu","norm_first":false,"norm_bias":false,"norm_eps":1e-3,)"
           R"("tie_word_embeddings":true,"vocab_size":512)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trunk.hidden_size, 128);
  EXPECT_EQ(config->trunk.num_layers, 3);
  EXPECT_EQ(config->trunk.vocab_size, 512);
  EXPECT_EQ(config->trunk.intermediate_size, 200);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-3F);
  EXPECT_TRUE(config->trunk.tie_word_embeddings);
  EXPECT_EQ(config->heads.num_heads, 2);
  EXPECT_EQ(config->heads.head_k_dim, 64);
  EXPECT_EQ(config->heads.head_v_dim, 128);
  EXPECT_EQ(config->proj_low_rank_dim, 5);
  EXPECT_EQ(config->gate_low_rank_dim, 7);
  EXPECT_EQ(config->hidden_act, Activation::kRelu);
  EXPECT_FALSE(config->norm_first);
  EXPECT_FALSE(config->norm_bias);
}

// All of the ratio, rounded up to 32; null is the default of 3.5.
TEST(Rwkv6Config, MakesTheSizeOfTheChannelMixOfItsRatio) {
  const auto size = [](const std::string& keys) {
    return ParseFamily<Rwkv6Config>(Keys(R"(,"hidden_size":128,"num_heads":2,)" + keys))
        ->trunk.intermediate_size;
  };
  EXPECT_EQ(size(R"("hidden_ratio":null)"), 448);
  EXPECT_EQ(size(R"("hidden_ratio":2)"), 256);
  EXPECT_EQ(size(R"("hidden_ratio":2.1)"), 288);
}

TEST(Rwkv6Config, RefusesOtherFunctionsByName) {
  const auto refusal = [](const std::string& keys) { return Refusal(Keys("," + keys)); };
  EXPECT_EQ(refusal(R"("use_glu":false,"use_short_conv":false,"conv_size":4)"), "accepted");
  EXPECT_THAT(refusal(R"("use_glu":true)"), HasSubstr("use_glu is true"));
  EXPECT_THAT(refusal(R"("attention_hidden_size":2560,"hidden_size":2560)"),
              HasSubstr("attention_hidden_size is 2560; this is RWKV's own format"));
  EXPECT_THAT(refusal(R"("head_size":64,"hidden_size":2560)"), HasSubstr("RWKV's own format"));
  EXPECT_THAT(refusal(R"("attn":{"layers":[1]})"), HasSubstr("attn is"));
  EXPECT_THAT(refusal(R"("attn_mode":"fused_chunk")"), HasSubstr("attn_mode is \"fused_chunk\""));
  EXPECT_THAT(refusal(R"("hidden_act":"tanh")"), HasSubstr("hidden_act is \"tanh\""));
  EXPECT_THAT(refusal(R"("hidden_act":null)"), HasSubstr("hidden_act is null"));
  EXPECT_THAT(refusal(R"("num_heads":3)"), HasSubstr("expand_k is absent"));
  EXPECT_THAT(refusal(R"("proj_low_rank_dim":0)"), HasSubstr("proj_low_rank_dim is 0"));
  EXPECT_THAT(refusal(R"("gate_low_rank_dim":0)"), HasSubstr("gate_low_rank_dim is 0"));
  EXPECT_THAT(refusal(R"("num_kv_heads":2)"), HasSubstr("unknown key \"num_kv_heads\""));
  EXPECT_EQ(refusal(R"("attn_mode":"fused_recurrent","fuse_norm":false)"), "accepted");
}

}  // namespace
}  // namespace sluice
