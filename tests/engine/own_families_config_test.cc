// The families whose format is our own: gated_retnet, gated_rfa, decaying_fast_weights.

#include <string>

#include "engine/models/decaying_fast_weights_config.h"
#include "engine/models/gated_retnet_config.h"
#include "engine/models/gated_rfa_config.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/parse_family.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr char kTrunk[] =
    R"("vocab_size":512,"hidden_size":256,"num_hidden_layers":2,"num_heads":4)";

std::string Keys(const std::string& model_type, const std::string& extra = "") {
  return R"("model_type":")" + model_type + "\"," + kTrunk + extra;
}

TEST(GatedRetNetConfig, AbsentKeysHaveDefaults) {
  const auto config = ParseFamily<GatedRetNetConfig>(Keys("gated_retnet"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->trunk.intermediate_size, 768);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 1e-6F);
  EXPECT_EQ(config->heads.num_kv_heads, 4);
  EXPECT_EQ(config->heads.head_k_dim, 64);
  EXPECT_EQ(config->heads.head_v_dim, 64);
  EXPECT_EQ(config->gate_logit_normalizer, 16);
  EXPECT_EQ(config->rope_theta, 10000);
  EXPECT_FALSE(config->elementwise_affine);
}

TEST(GatedRetNetConfig, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<GatedRetNetConfig>(
      Keys("gated_retnet", R"(,"expand_k":0.5,"expand_v":2,"gate_logit_normalizer":4,)"
                           R"("rope_theta":500,"elementwise_affine":true,"norm_eps":0.01)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.head_k_dim, 32);
  EXPECT_EQ(config->heads.head_v_dim, 128);
  EXPECT_EQ(config->gate_logit_normalizer, 4);
  EXPECT_EQ(config->rope_theta, 500);
  EXPECT_TRUE(config->elementwise_affine);
  EXPECT_FLOAT_EQ(config->trunk.norm_eps, 0.01F);
}

TEST(GatedRetNetConfig, RefusesByName) {
  const auto refusal = [](const std::string& keys) {
    return Refusal(Keys("gated_retnet", "," + keys));
  };
  EXPECT_THAT(refusal(R"("gate_logit_normalizer":0)"), HasSubstr("gate_logit_normalizer is 0"));
  EXPECT_THAT(refusal(R"("rope_theta":0.5)"), HasSubstr("rope_theta is 0.5"));
  EXPECT_THAT(refusal(R"("num_kv_heads":2)"), HasSubstr("unknown key \"num_kv_heads\""));
  EXPECT_THAT(refusal(R"("use_output_gate":true)"), HasSubstr("unknown key \"use_output_gate\""));
}

TEST(GatedRfaConfig, AbsentKeysHaveDefaults) {
  const auto config = ParseFamily<GatedRfaConfig>(Keys("gated_rfa"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.head_k_dim, 64);
  EXPECT_EQ(config->num_features, 64);
  EXPECT_FLOAT_EQ(config->normalizer_eps, 1e-6F);
}

TEST(GatedRfaConfig, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<GatedRfaConfig>(
      Keys("gated_rfa", R"(,"expand_v":2,"num_features":24,"normalizer_eps":0.1)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.head_v_dim, 128);
  EXPECT_EQ(config->num_features, 24);
  EXPECT_FLOAT_EQ(config->normalizer_eps, 0.1F);
  const auto null = ParseFamily<GatedRfaConfig>(Keys("gated_rfa", R"(,"num_features":null)"));
  EXPECT_EQ(null->num_features, 64);
}

TEST(GatedRfaConfig, RefusesByName) {
  const auto refusal = [](const std::string& keys) {
    return Refusal(Keys("gated_rfa", "," + keys));
  };
  EXPECT_THAT(refusal(R"("num_features":12)"), HasSubstr("num_features is 12"));
  EXPECT_THAT(refusal(R"("num_features":512)"), HasSubstr("num_features is 512"));
  EXPECT_THAT(refusal(R"("expand_k":8)"), HasSubstr("num_features is absent"));
  EXPECT_THAT(refusal(R"("normalizer_eps":-1)"), HasSubstr("normalizer_eps is -1"));
  EXPECT_THAT(refusal(R"("num_kv_heads":2)"), HasSubstr("unknown key \"num_kv_heads\""));
}

TEST(DecayingFastWeightsConfig, ReadsItsKeys) {
  const auto config = ParseFamily<DecayingFastWeightsConfig>(
      Keys("decaying_fast_weights", R"(,"expand_k":0.5,"expand_v":2)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->heads.head_k_dim, 32);
  EXPECT_EQ(config->heads.head_v_dim, 128);
  EXPECT_THAT(Refusal(Keys("decaying_fast_weights", R"(,"elementwise_affine":true)")),
              HasSubstr("unknown key \"elementwise_affine\""));
}

// No library defines these models, so none has defaults for their sizes.
TEST(OwnFamilies, NeedTheirSizes) {
  for (const char* model_type : {"gated_retnet", "gated_rfa", "decaying_fast_weights"}) {
    for (const char* key : {"vocab_size", "hidden_size", "num_hidden_layers", "num_heads"}) {
      std::string keys = Keys(model_type);
      const size_t at = keys.find(std::string("\"") + key);
      const size_t end = keys.find(',', at);
      keys.erase(end == std::string::npos ? at - 1 : at,
                 end == std::string::npos ? end : end + 1 - at);
      EXPECT_THAT(Refusal(keys), HasSubstr(std::string(key) + " is absent; it has no default"));
    }
  }
}

}  // namespace
}  // namespace sluice
