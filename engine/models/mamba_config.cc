#include "engine/models/mamba_config.h"

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/models/size_limits.h"
#include "engine/status_macros.h"
#include "kernels/selective_scan.h"

namespace sluice {
namespace {

// Both libraries write what `expand` makes as intermediate_size, and go by another number where one
// stands there.
constexpr MambaDefaults kTransformersDefaults = {.hidden_size = 768,
                                                 .num_layers = 32,
                                                 .vocab_size = 50280,
                                                 .tie_word_embeddings = true,
                                                 .bos_token_id = 0,
                                                 .eos_token_id = 0,
                                                 .by_intermediate_size = true};
constexpr MambaDefaults kFlaDefaults = {.hidden_size = 2048,
                                        .num_layers = 48,
                                        .vocab_size = 32000,
                                        .tie_word_embeddings = false,
                                        .bos_token_id = 1,
                                        .eos_token_id = 2,
                                        .by_intermediate_size = true};
constexpr int64_t kMaxRank = 16384;

int32_t ReadStateSize(JsonReader& reader) {
  const int64_t size = reader.Int("state_size", 16, kWidthMultiple, kMaxScanState);
  if (size % kWidthMultiple != 0) {
    reader.Refuse("state_size", absl::StrCat("it must be a multiple of ", kWidthMultiple));
  }
  return static_cast<int32_t>(size);
}

int32_t ReadRank(JsonReader& reader, MambaFormat format, int32_t hidden_size) {
  const bool fla = format == MambaFormat::kFla;
  const char* const key =
      EitherKey(reader, fla ? "dt_rank" : "time_step_rank", fla ? "time_step_rank" : "dt_rank");
  const int32_t automatic = (hidden_size + 15) / 16;
  if (!reader.Has(key)) return automatic;
  if (reader.Value(key) == "auto") return automatic;
  return static_cast<int32_t>(reader.Int(key, automatic, 1, kMaxRank));
}

}  // namespace

absl::StatusOr<MambaConfig> ReadMambaConfig(JsonReader& reader) {
  const MambaFormat format = ReadMambaFormat(reader);
  MambaConfig config = {};
  config.trunk = ReadMambaTrunk(reader, format,
                                format == MambaFormat::kFla ? kFlaDefaults : kTransformersDefaults);
  config.state_size = ReadStateSize(reader);
  config.dt_rank = ReadRank(reader, format, config.trunk.hidden_size);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
