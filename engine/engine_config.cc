#include "engine/engine_config.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckRange(absl::string_view flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " is ", value, "; it must lie in [", low, ", ", high, "]"));
}

// Zero means that the engine decides.
absl::Status CheckRangeOrZero(absl::string_view flag, int64_t value, int64_t low, int64_t high) {
  return value == 0 ? absl::OkStatus() : CheckRange(flag, value, low, high);
}

absl::Status CheckChoice(absl::string_view flag, absl::string_view value,
                         std::initializer_list<absl::string_view> choices) {
  if (std::find(choices.begin(), choices.end(), value) != choices.end()) return absl::OkStatus();
  const std::vector<absl::string_view> first(choices.begin(), choices.end() - 1);
  return absl::InvalidArgumentError(absl::StrCat(flag, " is \"", value, "\"; it must be ",
                                                 absl::StrJoin(first, ", "), " or ",
                                                 *(choices.end() - 1)));
}

}  // namespace

StateFormat StateFormatOf(const EngineConfig& config) {
  StateFormat format = {.ring = config.state_ring};
  if (config.state_type == "float16") format.type = StateType::kFloat16;
  if (config.state_type == "int8") format.type = StateType::kInt8;
  return format;
}

bool HasFloat8Weights(const EngineConfig& config) { return config.weight_type == "fp8"; }

absl::Status ValidateEngineConfig(const EngineConfig& config) {
  if (config.model_dir.empty()) {
    return absl::InvalidArgumentError(
        "model is not set; it must name a Hugging Face model directory");
  }
  if (config.device != "auto" && config.device != "cpu" && config.device != "cuda" &&
      !absl::StartsWith(config.device, "cuda:")) {
    return absl::InvalidArgumentError(
        absl::StrCat("device is \"", config.device, "\"; it must be auto, cpu, cuda or cuda:N"));
  }
  SLUICE_RETURN_IF_ERROR(CheckChoice("dtype", config.dtype, {"auto", "bfloat16", "float32"}));
  SLUICE_RETURN_IF_ERROR(CheckChoice("weight_type", config.weight_type, {"checkpoint", "fp8"}));
  if (HasFloat8Weights(config) && config.dtype == "float32") {
    return absl::InvalidArgumentError(
        "weight_type is fp8, whose products are those of bfloat16; dtype is float32, and must be "
        "auto or bfloat16");
  }
  constexpr int64_t kMaxTokens = 1 << 24;
  SLUICE_RETURN_IF_ERROR(
      CheckChoice("deterministic", config.deterministic, {"auto", "true", "false"}));
  SLUICE_RETURN_IF_ERROR(
      CheckChoice("state_type", config.state_type, {"float32", "float16", "int8"}));
  if (config.state_type != "float32" && config.deterministic == "true") {
    return absl::InvalidArgumentError(
        absl::StrCat("deterministic needs states of float32; state_type is ", config.state_type,
                     ", of which a prompt is rounded where it is split"));
  }
  SLUICE_RETURN_IF_ERROR(CheckRange("state_ring", config.state_ring, 0, kMaxStateRing));
  SLUICE_RETURN_IF_ERROR(CheckRangeOrZero("threads", config.threads, 1, 1024));
  SLUICE_RETURN_IF_ERROR(CheckRangeOrZero("slots", config.state_slots, 1, kMaxStateSlots));
  SLUICE_RETURN_IF_ERROR(CheckRange("max_waiting", config.max_waiting, 0, 1'000'000));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("max_waiting_tokens", config.max_waiting_tokens, 1, int64_t{1} << 40));
  if (config.max_queue_time <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat("max_queue_time is ",
                                                   absl::FormatDuration(config.max_queue_time),
                                                   "; it must be positive"));
  }
  SLUICE_RETURN_IF_ERROR(CheckRange("max_prompt_tokens", config.max_prompt_tokens, 1, kMaxTokens));
  SLUICE_RETURN_IF_ERROR(CheckRange("max_output_tokens", config.max_output_tokens, 1, kMaxTokens));
  SLUICE_RETURN_IF_ERROR(CheckRange("max_text_bytes", config.max_text_bytes, 1, int64_t{1} << 30));
  SLUICE_RETURN_IF_ERROR(CheckRangeOrZero("max_step_tokens", config.max_step_tokens, 65, 65536));
  if (!(config.memory_fraction > 0 && config.memory_fraction <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("memory_fraction is ", config.memory_fraction, "; it must lie in (0, 1]"));
  }
  if (config.stall_limit <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stall_limit is ", absl::FormatDuration(config.stall_limit), "; it must be positive"));
  }
  return absl::OkStatus();
}

}  // namespace sluice
