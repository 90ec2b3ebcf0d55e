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

void CheckLimits(const ModelConfig& config) {
  SLUICE_CHECK(config.vocab_size >= 1 && config.vocab_size <= 1'000'000);
  for (int32_t id : config.generation.eos_token_ids) {
    SLUICE_CHECK(id >= 0 && id < config.vocab_size);
  }
  if (config.bos_token_id.has_value()) {
    SLUICE_CHECK(*config.bos_token_id >= 0 && *config.bos_token_id < config.vocab_size);
  }
  const auto& gla = std::get<GlaConfig>(config.family);
  SLUICE_CHECK(gla.trunk.hidden_size >= 8 && gla.trunk.hidden_size <= 16384 &&
               gla.trunk.hidden_size % 8 == 0);
  SLUICE_CHECK(gla.trunk.num_layers >= 1 && gla.trunk.num_layers <= 256);
  SLUICE_CHECK(gla.heads.num_kv_heads >= 1 && gla.heads.num_heads <= 256);
  SLUICE_CHECK(gla.heads.num_heads % gla.heads.num_kv_heads == 0);
  for (int32_t dim : {gla.heads.head_k_dim, gla.heads.head_v_dim}) {
    SLUICE_CHECK(dim >= 16 && dim <= 512 && dim % 16 == 0);
  }
  SLUICE_CHECK(gla.trunk.intermediate_size >= 8 && gla.trunk.intermediate_size % 8 == 0);
  SLUICE_CHECK(!gla.conv.use || (gla.conv.size >= 2 && gla.conv.size <= 8));
  SLUICE_CHECK(!gla.clamp_min.has_value() || *gla.clamp_min <= 0);
  SLUICE_CHECK(gla.trunk.norm_eps > 0);
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
