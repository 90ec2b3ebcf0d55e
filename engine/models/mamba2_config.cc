#include "engine/models/mamba2_config.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "engine/models/size_limits.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr MambaDefaults kTransformersDefaults = {.hidden_size = 4096,
                                                 .num_layers = 64,
                                                 .vocab_size = 32768,
                                                 .tie_word_embeddings = false,
                                                 .bos_token_id = 0,
                                                 .eos_token_id = 2,
                                                 .by_intermediate_size = false};
constexpr MambaDefaults kFlaDefaults = {.hidden_size = 2048,
                                        .num_layers = 48,
                                        .vocab_size = 32000,
                                        .tie_word_embeddings = false,
                                        .bos_token_id = 1,
                                        .eos_token_id = 2,
                                        .by_intermediate_size = false};

// Both libraries refuse a number of heads that is not D / P.
void ReadHeads(JsonReader& reader, int64_t default_groups, Mamba2Config& config) {
  const int32_t inner = config.trunk.inner_size;
  config.head_dim = ReadHeadDim(reader, "head_dim", 64);
  config.num_heads = inner / config.head_dim;
  if (inner % config.head_dim != 0 || config.num_heads > kMaxHeads) {
    reader.Refuse("head_dim", absl::StrCat("it must divide expand * hidden_size, ", inner,
                                           ", into at most ", kMaxHeads, " heads"));
  }
  if (reader.Has("num_heads") &&
      reader.Int("num_heads", config.num_heads, 1, kMaxHeads) != config.num_heads) {
    reader.Refuse("num_heads", absl::StrCat("expand * hidden_size / head_dim is ", inner, " / ",
                                            config.head_dim));
  }
  config.n_groups = static_cast<int32_t>(reader.Int("n_groups", default_groups, 1, kMaxHeads));
  if (config.num_heads % config.n_groups != 0) {
    reader.Refuse("n_groups", absl::StrCat("it must divide the heads, ", config.num_heads));
  }
}

// A number, or infinity: as a string, or as TagInfinities and transformers 5 write it.
std::optional<float> TimeStep(const nlohmann::json& value) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto tagged = nlohmann::json::object({{"__float__", "Infinity"}});
  if (value == tagged || value == "Infinity") return kInfinity;
  if (!value.is_number()) return std::nullopt;
  const auto number = value.get<double>();
  return number > std::numeric_limits<float>::max() ? kInfinity : static_cast<float>(number);
}

void ReadTimeStepLimit(JsonReader& reader, MambaFormat format, Mamba2Config& config) {
  const bool fla = format == MambaFormat::kFla;
  const char* const key =
      EitherKey(reader, fla ? "dt_limit" : "time_step_limit", fla ? "time_step_limit" : "dt_limit");
  config.dt_min = 0;
  config.dt_max = std::numeric_limits<float>::infinity();
  if (!reader.Has(key)) return;
  const nlohmann::json& value = reader.Value(key);
  const bool pair = value.is_array() && value.size() == 2;
  const std::optional<float> min = pair ? TimeStep(value[0]) : std::nullopt;
  const std::optional<float> max = pair ? TimeStep(value[1]) : std::nullopt;
  if (!min.has_value() || !max.has_value() || *min < 0 || *max < *min ||
      *min > std::numeric_limits<float>::max()) {
    reader.Refuse(key,
                  "it must be two numbers, 0 <= lowest <= highest, of which the highest may be "
                  "infinite");
    return;
  }
  config.dt_min = *min;
  config.dt_max = *max;
}

// transformers always norms, and always after the gate: files converted for it may say
// norm_before_gate, and it does not look.
void ReadOutput(JsonReader& reader, MambaFormat format, Mamba2Config& config) {
  config.rmsnorm = reader.Bool("rmsnorm", true);
  config.norm_before_gate = reader.Bool("norm_before_gate", false);
  config.skip_per_channel = reader.Bool("D_has_hdim", false);
  if (format == MambaFormat::kFla) return;
  config.rmsnorm = true;
  config.norm_before_gate = false;
  config.skip_per_channel = false;
}

}  // namespace

absl::StatusOr<Mamba2Config> ReadMamba2Config(JsonReader& reader) {
  const MambaFormat format = ReadMambaFormat(reader);
  const bool fla = format == MambaFormat::kFla;
  Mamba2Config config = {};
  config.trunk = ReadMambaTrunk(reader, format, fla ? kFlaDefaults : kTransformersDefaults);
  ReadHeads(reader, fla ? 1 : 8, config);
  config.state_size = ReadHeadDim(reader, "state_size", 128);
  ReadTimeStepLimit(reader, format, config);
  ReadOutput(reader, format, config);
  // A rank of the step sizes, which is written and nothing reads.
  reader.Ignore({"time_step_rank"});
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
