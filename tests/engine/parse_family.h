// Reads the config of one family from the keys of a config.json.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "engine/model_config.h"

namespace sluice {

template <typename Config>
absl::StatusOr<Config> ParseFamily(const std::string& keys) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig("{" + keys + "}", std::nullopt);
  if (!config.ok()) return config.status();
  return std::get<Config>(config->family);
}

// The message that the keys are refused with; "accepted" if they are not.
inline std::string Refusal(const std::string& keys) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig("{" + keys + "}", std::nullopt);
  return config.ok() ? "accepted" : std::string(config.status().message());
}

}  // namespace sluice
