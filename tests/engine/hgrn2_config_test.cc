#include "engine/models/hgrn2_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/parse_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string Keys(const std::string& extra) { return R"("model_type":"hgrn2")" + extra; }

TEST(Hgrn2Config, AbsentKeysHaveTheDefaultsOfFla) {
  const auto config = ParseFamily<Hgrn2Config>(Keys(""));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trunk.hidden_size, 2048);
  EXPECT_EQ(config->trunk.num_layers, 24);
  EXPECT_EQ(config->trunk.intermediate_size, 5632);
  EXPECT_EQ(config->num_heads, 16);
  EXPECT_EQ(config->head_k_dim, 128);
  EXPECT_EQ(config->head_v_dim, 128);
  EXPECT_FALSE(config->conv.use);
  EXPECT_TRUE(config->use_lower_bound);
  EXPECT_TRUE(config->elementwise_affine);
}

TEST(Hgrn2Config, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<Hgrn2Config>(
      Keys(R"(,"hidden_size":96,"expand_ratio":32,"num_heads":3,"use_short_conv":true,)"
           R"("conv_size":3,"use_lower_bound":false,"elementwise_affine":false,"norm_eps":1e-2)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_heads, 3);
  EXPECT_EQ(config->head_k_dim, 32);
  EXPECT_TRUE(config->conv.use);
  EXPECT_EQ(config->conv.size, 3);
  EXPECT_FALSE(config->use_lower_bound);
  EXPECT_FALSE(config->elementwise_affine);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-2F);
  EXPECT_FLOAT_EQ(config->output_norm_eps, 1e-5F);
}

TEST(Hgrn2Config, HeadsMakeTheExpansionWhereItIsNull) {
  const auto config =
      ParseFamily<Hgrn2Config>(Keys(R"(,"hidden_size":96,"expand_ratio":null,"num_heads":2)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_heads, 2);
  EXPECT_EQ(config->head_k_dim, 48);
}

// 2 heads of 48 keys and 64 values.
TEST(Hgrn2Config, KeysNeedNotMakeUpTheHiddenSize) {
  const std::string sizes = R"(,"hidden_size":128,"expand_ratio":48)";
  const auto config = ParseFamily<Hgrn2Config>(Keys(sizes + R"(,"use_lower_bound":false)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_heads, 2);
  EXPECT_EQ(config->ForgetDim(), 96);
  EXPECT_EQ(config->head_v_dim, 64);
  EXPECT_THAT(Refusal(Keys(sizes)), HasSubstr("use_lower_bound is absent; it needs hidden_size"));
}

TEST(Hgrn2Config, GoesByTheExpandRatioWhereHeadsAreGivenAsWell) {
  const auto config = ParseFamily<Hgrn2Config>(Keys(R"(,"num_heads":8)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_heads, 16);
}

TEST(Hgrn2Config, RefusesOtherFunctionsByName) {
  const auto refusal = [](const std::string& keys) { return Refusal(Keys("," + keys)); };
  EXPECT_THAT(refusal(R"("expand_ratio":null)"), HasSubstr("expand_ratio is null"));
  EXPECT_THAT(refusal(R"("expand_ratio":24)"), HasSubstr("expand_ratio is 24"));
  EXPECT_THAT(refusal(R"("expand_ratio":1024)"), HasSubstr("expand_ratio is 1024"));
  EXPECT_THAT(refusal(R"("hidden_size":64,"expand_ratio":128)"), HasSubstr("expand_ratio is 128"));
  EXPECT_THAT(refusal(R"("hidden_size":16384,"expand_ratio":16)"), HasSubstr("makes 1024 heads"));
  EXPECT_THAT(refusal(R"("use_short_conv":true,"conv_size":9)"), HasSubstr("conv_size is 9"));
  EXPECT_THAT(refusal(R"("attn":{"layers":[1]})"), HasSubstr("attn is"));
  EXPECT_THAT(refusal(R"("attnres_block_size":2)"), HasSubstr("attnres_block_size is 2"));
  EXPECT_THAT(refusal(R"("hidden_act":"gelu")"), HasSubstr("hidden_act is \"gelu\""));
  EXPECT_THAT(refusal(R"("attn_mode":"parallel")"), HasSubstr("attn_mode is \"parallel\""));
  EXPECT_THAT(refusal(R"("num_kv_heads":2)"), HasSubstr("unknown key \"num_kv_heads\""));
}

}  // namespace
}  // namespace sluice
