// config.json and, behind a zero byte, generation_config.json of any bytes: refused, or within the
// limits that kernels and buffers rely on.
#include "engine/model_config.h"

#include <cstddef>
#include <optional>
#include <string_view>
#include <variant>

#include "kernels/check.h"

namespace sluice {
namespace {

void CheckFlaTrunk(const FlaTrunk& trunk) {
  SLUICE_CHECK(trunk.hidden_size >= 8 && trunk.hidden_size <= 16384 && trunk.hidden_size % 8 == 0);
  SLUICE_CHECK(trunk.num_layers >= 1 && trunk.num_layers <= 256);
  SLUICE_CHECK(trunk.intermediate_size >= 8 && trunk.intermediate_size % 8 == 0);
  SLUICE_CHECK(trunk.norm_eps > 0);
}

void CheckHeads(const FlaHeads& heads) {
  SLUICE_CHECK(heads.num_kv_heads >= 1 && heads.num_heads <= 256);
  SLUICE_CHECK(heads.num_heads % heads.num_kv_heads == 0);
  for (int32_t dim : {heads.head_k_dim, heads.head_v_dim}) {
    SLUICE_CHECK(dim >= 16 && dim <= 512 && dim % 16 == 0);
  }
}

void CheckConv(const FlaShortConv& conv) {
  SLUICE_CHECK(!conv.use || (conv.size >= 2 && conv.size <= 8));
}

void CheckFamily(const DecayingFastWeightsConfig& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
}

void CheckFamily(const GatedRetNetConfig& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
  SLUICE_CHECK(config.gate_logit_normalizer > 0 && config.rope_theta > 0);
}

void CheckFamily(const GatedRfaConfig& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
  SLUICE_CHECK(config.num_features >= 8 && config.num_features <= 256);
  SLUICE_CHECK(config.num_features % 8 == 0 && config.normalizer_eps >= 0);
}

void CheckFamily(const GlaConfig& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
  CheckConv(config.conv);
  SLUICE_CHECK(!config.clamp_min.has_value() || *config.clamp_min <= 0);
}

void CheckFamily(const Hgrn2Config& config) {
  CheckFlaTrunk(config.trunk);
  CheckConv(config.conv);
  SLUICE_CHECK(config.num_heads >= 1 && config.num_heads <= 256);
  for (int32_t dim : {config.head_k_dim, config.head_v_dim}) {
    SLUICE_CHECK(dim >= 16 && dim <= 512 && dim % 16 == 0);
  }
  SLUICE_CHECK(config.num_heads * config.head_v_dim == config.trunk.hidden_size);
  SLUICE_CHECK(!config.use_lower_bound || config.ForgetDim() == config.trunk.hidden_size);
}

void CheckFamily(const LinearAttnConfig& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
  SLUICE_CHECK(config.Map().Features() <= 512);
}

void CheckFamily(const RetNetConfig& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
  SLUICE_CHECK(config.heads.head_k_dim <= 256);
}

void CheckFamily(const Rwkv6Config& config) {
  CheckFlaTrunk(config.trunk);
  CheckHeads(config.heads);
  SLUICE_CHECK(config.proj_low_rank_dim >= 1 && config.proj_low_rank_dim <= 4096);
  SLUICE_CHECK(config.gate_low_rank_dim >= 1 && config.gate_low_rank_dim <= 16384);
}

void CheckFamily(const XlstmConfig& config) {
  SLUICE_CHECK(config.hidden_size >= 8 && config.hidden_size <= 16384);
  SLUICE_CHECK(config.hidden_size % 8 == 0);
  SLUICE_CHECK(config.num_layers >= 1 && config.num_layers <= 256);
  SLUICE_CHECK(config.intermediate_size >= 8 && config.intermediate_size <= 131072);
  SLUICE_CHECK(config.intermediate_size % 8 == 0);
  SLUICE_CHECK(config.num_heads >= 1 && config.num_heads <= 256);
  for (int32_t dim : {config.head_k_dim, config.head_v_dim}) {
    SLUICE_CHECK(dim >= 16 && dim <= 512 && dim % 16 == 0);
  }
  SLUICE_CHECK(config.norm_eps > 0 && config.eps > 0);
  SLUICE_CHECK(config.gate_soft_cap > 0 && config.logit_soft_cap > 0);
}

void CheckMambaTrunk(const MambaTrunk& trunk) {
  SLUICE_CHECK(trunk.hidden_size >= 8 && trunk.hidden_size <= 16384 && trunk.hidden_size % 8 == 0);
  SLUICE_CHECK(trunk.num_layers >= 1 && trunk.num_layers <= 256);
  SLUICE_CHECK(trunk.inner_size >= 8 && trunk.inner_size <= 32768 && trunk.inner_size % 8 == 0);
  SLUICE_CHECK(trunk.conv_kernel >= 2 && trunk.conv_kernel <= 8);
  SLUICE_CHECK(trunk.norm_eps > 0);
}

void CheckFamily(const MambaConfig& mamba) {
  CheckMambaTrunk(mamba.trunk);
  SLUICE_CHECK(mamba.state_size >= 8 && mamba.state_size <= 256 && mamba.state_size % 8 == 0);
  SLUICE_CHECK(mamba.dt_rank >= 1 && mamba.dt_rank <= 16384);
}

void CheckFamily(const Mamba2Config& mamba) {
  CheckMambaTrunk(mamba.trunk);
  SLUICE_CHECK(mamba.num_heads >= 1 && mamba.num_heads <= 256);
  SLUICE_CHECK(mamba.num_heads * mamba.head_dim == mamba.trunk.inner_size);
  SLUICE_CHECK(mamba.n_groups >= 1 && mamba.num_heads % mamba.n_groups == 0);
  for (int32_t dim : {mamba.head_dim, mamba.state_size}) {
    SLUICE_CHECK(dim >= 16 && dim <= 512 && dim % 16 == 0);
  }
  SLUICE_CHECK(mamba.dt_min >= 0 && mamba.dt_min <= mamba.dt_max);
}

void CheckLimits(const ModelConfig& config) {
  SLUICE_CHECK(config.vocab_size >= 1 && config.vocab_size <= 1'000'000);
  for (int32_t id : config.generation.eos_token_ids) {
    SLUICE_CHECK(id >= 0 && id < config.vocab_size);
  }
  if (config.bos_token_id.has_value()) {
    SLUICE_CHECK(*config.bos_token_id >= 0 && *config.bos_token_id < config.vocab_size);
  }
  std::visit([](const auto& family) { CheckFamily(family); }, config.family);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t zero = text.find('\0');
  std::optional<std::string_view> generation;
  if (zero != std::string_view::npos) generation = text.substr(zero + 1);
  const auto config = sluice::ParseModelConfig(text.substr(0, zero), generation);
  if (config.ok()) {
    sluice::CheckLimits(*config);
  } else {
    SLUICE_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
  }
  return 0;
}
