#include "engine/models/xlstm_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/parse_family.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string Keys(const std::string& extra) { return R"("model_type":"xlstm")" + extra; }

TEST(XlstmConfig, AbsentKeysHaveTheDefaultsOfTransformers) {
  const auto config = ParseFamily<XlstmConfig>(Keys(""));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 4096);
  EXPECT_EQ(config->num_layers, 32);
  EXPECT_EQ(config->vocab_size, 50304);
  EXPECT_EQ(config->intermediate_size, 10944);
  EXPECT_EQ(config->num_heads, 8);
  EXPECT_EQ(config->head_k_dim, 256);
  EXPECT_EQ(config->head_v_dim, 512);
  EXPECT_FLOAT_EQ(config->norm_eps, 1e-6F);
  EXPECT_FLOAT_EQ(config->eps, 1e-6F);
  EXPECT_FLOAT_EQ(config->gate_soft_cap, 15);
  EXPECT_FLOAT_EQ(config->logit_soft_cap, 30);
  EXPECT_FALSE(config->use_bias);
  EXPECT_FALSE(config->fused);
  const auto model = ParseModelConfig("{" + Keys("") + "}", std::nullopt);
  EXPECT_EQ(model->bos_token_id, 0);
  EXPECT_THAT(model->generation.eos_token_ids, ElementsAre(2));
}

// config.json of NX-AI/xLSTM-7b, with what it kept of its training.
TEST(XlstmConfig, ReadsThePublishedModel) {
  const std::string published = R"(,"add_embedding_dropout":false,
      "add_forward_backend_padding":false,"add_out_norm":true,"add_post_blocks_norm":true,
      "add_post_norm":false,"add_qk_norm":false,"architectures":["xLSTMForCausalLM"],
      "autocast_kernel_dtype":"bfloat16","bos_token_id":0,"cell_norm_eps":1e-06,"chunk_size":64,
      "chunkwise_kernel":"chunkwise--triton_xl_chunk","embedding_dim":4096,"eos_token_id":2,
      "eps":1e-06,"ffn_proj_factor":2.667,"ffn_round_up_to_multiple_of":64,
      "force_bos_token_insert":true,"gate_soft_cap":15.0,"head_dim":512,
      "igate_bias_init_range":-10.0,"inference_state_dtype":"float32",
      "mlstm_round_up_to_multiple_of":64,"mode":"inference","norm_eps":1e-06,
      "norm_reduction_force_float32":true,"num_blocks":32,"num_heads":8,
      "output_logit_soft_cap":30.0,"pad_token_id":1,"qk_dim_factor":0.5,"return_last_states":true,
      "sequence_kernel":"native_sequence__triton","step_kernel":"triton",
      "tie_word_embeddings":false,"torch_dtype":"float32","transformers_version":"4.48.0.dev0",
      "use_bias":false,"use_cache":true,"v_dim_factor":1.0,"vocab_size":50304,
      "weight_mode":"single")";
  const auto config = ParseFamily<XlstmConfig>(Keys(published));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->num_layers, 32);
  EXPECT_EQ(config->head_k_dim, 256);
  EXPECT_EQ(config->head_v_dim, 512);
  EXPECT_EQ(config->intermediate_size, 10944);
}

TEST(XlstmConfig, ReadsEveryKeyThatChangesTheFunction) {
  const auto config = ParseFamily<XlstmConfig>(
      Keys(R"(,"hidden_size":128,"num_hidden_layers":3,"num_heads":2,"qk_dim_factor":0.75,)"
           R"("v_dim_factor":0.5,"ffn_proj_factor":1.3,"ffn_round_up_to_multiple_of":24,)"
           R"("norm_eps":1e-3,"eps":0.5,"gate_soft_cap":4.5,"output_logit_soft_cap":7,)"
           R"("use_bias":true,"weight_mode":"fused","vocab_size":512)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 128);
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->vocab_size, 512);
  EXPECT_EQ(config->num_heads, 2);
  EXPECT_EQ(config->head_k_dim, 48);
  EXPECT_EQ(config->head_v_dim, 32);
  EXPECT_EQ(config->intermediate_size, 168);
  EXPECT_FLOAT_EQ(config->norm_eps, 1e-3F);
  EXPECT_FLOAT_EQ(config->eps, 0.5F);
  EXPECT_FLOAT_EQ(config->gate_soft_cap, 4.5F);
  EXPECT_FLOAT_EQ(config->logit_soft_cap, 7);
  EXPECT_TRUE(config->use_bias);
  EXPECT_TRUE(config->fused);
}

TEST(XlstmConfig, TakesEitherNameOfASize) {
  const auto config = ParseFamily<XlstmConfig>(
      Keys(R"(,"hidden_size":null,"embedding_dim":128,"num_hidden_layers":null,"num_blocks":5,)"
           R"("num_heads":2)"));
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->hidden_size, 128);
  EXPECT_EQ(config->num_layers, 5);
  EXPECT_EQ(Refusal(Keys(R"(,"hidden_size":4096,"embedding_dim":4096,"num_blocks":32)")),
            "accepted");
  EXPECT_THAT(Refusal(Keys(R"(,"hidden_size":128,"embedding_dim":256)")),
              HasSubstr("embedding_dim is 256"));
  EXPECT_THAT(Refusal(Keys(R"(,"num_hidden_layers":3,"num_blocks":4)")),
              HasSubstr("num_blocks is 4"));
  EXPECT_THAT(Refusal(Keys(R"(,"embedding_dim":300)")), HasSubstr("hidden_size"));
}

TEST(XlstmConfig, IgnoresHowTheSameFunctionIsComputed) {
  EXPECT_EQ(Refusal(Keys(R"(,"chunkwise_kernel":"chunkwise--triton_xl_chunk","chunk_size":64,)"
                         R"("sequence_kernel":"native_sequence__triton","step_kernel":"triton",)"
                         R"("mode":"inference","return_last_states":true,)"
                         R"("autocast_kernel_dtype":"bfloat16","inference_state_dtype":"float32",)"
                         R"("norm_reduction_force_float32":true,"max_inference_chunksize":16384,)"
                         R"("add_out_norm":false,"tie_word_embeddings":false)")),
            "accepted");
}

TEST(XlstmConfig, RefusesOtherFunctionsByName) {
  const auto refusal = [](const std::string& keys) { return Refusal(Keys("," + keys)); };
  EXPECT_THAT(refusal(R"("weight_mode":"other")"), HasSubstr("weight_mode is \"other\""));
  EXPECT_THAT(refusal(R"("tie_word_embeddings":true)"), HasSubstr("tie_word_embeddings is true"));
  EXPECT_THAT(refusal(R"("gate_soft_cap":0)"), HasSubstr("gate_soft_cap is 0"));
  EXPECT_THAT(refusal(R"("output_logit_soft_cap":0)"), HasSubstr("output_logit_soft_cap is 0"));
  EXPECT_THAT(refusal(R"("num_heads":3)"), HasSubstr("qk_dim_factor is absent"));
  EXPECT_THAT(refusal(R"("qk_dim_factor":2)"), HasSubstr("qk_dim_factor is 2"));
  EXPECT_THAT(refusal(R"("v_dim_factor":0.001)"), HasSubstr("v_dim_factor is 0.001"));
  EXPECT_THAT(refusal(R"("ffn_proj_factor":1,"ffn_round_up_to_multiple_of":10)"),
              HasSubstr("ffn_proj_factor is 1"));
  EXPECT_THAT(refusal(R"("num_blocks":400)"), HasSubstr("num_blocks is 400"));
  EXPECT_THAT(refusal(R"("slstm_at":[1])"), HasSubstr("unknown key \"slstm_at\""));
}

}  // namespace
}  // namespace sluice
