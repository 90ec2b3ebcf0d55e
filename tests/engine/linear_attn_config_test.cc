#include "engine/models/linear_attn_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/parse_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string Keys(const std::string& extra) { return R"("model_type":"linear_attn")" + extra; }

TEST(LinearAttnConfig, AbsentKeysHaveTheDefaultsOfFla) {
  const auto config = ParseFamily<LinearAttnConfig>(Keys(""));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trunk.hidden_size, 2048);
  EXPECT_EQ(config->trunk.num_layers, 24);
  EXPECT_EQ(config->trunk.intermediate_size, 5632);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-6F);
  EXPECT_EQ(config->heads.num_heads, 4);
  EXPECT_EQ(config->heads.head_k_dim, 512);
  EXPECT_EQ(config->heads.head_v_dim, 512);
  EXPECT_EQ(config->feature_map, FeatureMapName::kElementwise);
  EXPECT_FALSE(config->tie_feature_map_qk);
  EXPECT_FALSE(config->norm_q);
  EXPECT_FALSE(config->norm_k);
  EXPECT_FALSE(config->norm_feature_map);
  EXPECT_TRUE(config->elementwise_affine);
}

TEST(LinearAttnConfig, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<LinearAttnConfig>(
      Keys(R"(,"hidden_size":128,"num_heads":4,"num_kv_heads":2,"expand_k":0.5,"expand_v":2,)"
           R"("feature_map":"hedgehog","tie_feature_map_qk":true,"norm_q":true,"norm_k":true,)"
           R"("norm_feature_map":true,"elementwise_affine":false)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.num_kv_heads, 2);
  EXPECT_EQ(config->heads.head_k_dim, 16);
  EXPECT_EQ(config->heads.head_v_dim, 64);
  EXPECT_EQ(config->Map().Features(), 32);
  EXPECT_TRUE(config->tie_feature_map_qk);
  EXPECT_TRUE(config->norm_q);
  EXPECT_TRUE(config->norm_k);
  EXPECT_TRUE(config->norm_feature_map);
  EXPECT_FALSE(config->elementwise_affine);
}

TEST(LinearAttnConfig, KnowsTheFeatureMaps) {
  const auto map = [](const std::string& name) {
    return ParseFamily<LinearAttnConfig>(
               Keys(R"(,"hidden_size":256,"feature_map":")" + name + "\""))
        ->feature_map;
  };
  EXPECT_EQ(map("dpfp"), FeatureMapName::kDpfp);
  EXPECT_EQ(map("elementwise_product"), FeatureMapName::kElementwise);
  EXPECT_EQ(map("elu"), FeatureMapName::kElu);
  EXPECT_EQ(map("hedgehog"), FeatureMapName::kHedgehog);
  EXPECT_EQ(map("identity"), FeatureMapName::kIdentity);
  EXPECT_EQ(map("relu"), FeatureMapName::kRelu);
  EXPECT_EQ(map("t2r"), FeatureMapName::kT2r);
  EXPECT_THAT(Refusal(Keys(R"(,"feature_map":"taylor")")), HasSubstr("feature_map is \"taylor\""));
}

TEST(LinearAttnConfig, RefusesMoreFeaturesThanAStateHolds) {
  EXPECT_THAT(Refusal(Keys(R"(,"hidden_size":512,"feature_map":"dpfp")")),
              HasSubstr("it makes 1024 features a head; the limit is 512"));
  EXPECT_EQ(Refusal(Keys(R"(,"hidden_size":256,"feature_map":"dpfp")")), "accepted");
}

TEST(LinearAttnConfig, RefusesOtherFunctionsByName) {
  const auto refusal = [](const std::string& keys) { return Refusal(Keys("," + keys)); };
  EXPECT_THAT(refusal(R"("num_kv_heads":3)"), HasSubstr("num_kv_heads is 3"));
  EXPECT_THAT(refusal(R"("attn":{"layers":[1]})"), HasSubstr("attn is"));
  EXPECT_THAT(refusal(R"("attnres_block_size":2)"), HasSubstr("attnres_block_size is 2"));
  EXPECT_THAT(refusal(R"("hidden_act":"gelu")"), HasSubstr("hidden_act is \"gelu\""));
  EXPECT_THAT(refusal(R"("attn_mode":"parallel")"), HasSubstr("attn_mode is \"parallel\""));
  EXPECT_THAT(refusal(R"("output_norm":"identity")"), HasSubstr("unknown key \"output_norm\""));
}

}  // namespace
}  // namespace sluice
