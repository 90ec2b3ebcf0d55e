#include "engine/models/hgrn2_config.h"

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "kernels/gated_shape.h"

namespace sluice {
namespace {

constexpr int32_t kDefaultExpandRatio = 128;

bool IsHeadDim(int32_t dim) {
  return dim >= kGatedDimMultiple && dim <= kMaxGatedDim && dim % kGatedDimMultiple == 0;
}

// expand_ratio, or what num_heads makes of it where it is null.
int32_t ReadExpandRatio(JsonReader& reader, int32_t hidden_size) {
  if (!reader.IsNull("expand_ratio")) {
    return static_cast<int32_t>(
        reader.Int("expand_ratio", kDefaultExpandRatio, kGatedDimMultiple, kMaxGatedDim));
  }
  if (!reader.Has("num_heads")) {
    reader.Refuse("expand_ratio", "one of it and num_heads must be there");
    return kDefaultExpandRatio;
  }
  return hidden_size / static_cast<int32_t>(reader.Int("num_heads", 1, 1, kMaxGatedHeads));
}

void ReadHeads(JsonReader& reader, Hgrn2Config& config) {
  const int32_t hidden = config.trunk.hidden_size;
  config.head_k_dim = ReadExpandRatio(reader, hidden);
  if (!IsHeadDim(config.head_k_dim) || config.head_k_dim > hidden) {
    reader.Refuse("expand_ratio",
                  absl::StrCat("with hidden_size ", hidden, " it makes ", config.head_k_dim,
                               " key channels a head; it must be a multiple of ", kGatedDimMultiple,
                               " up to ", kMaxGatedDim, " and hidden_size"));
    return;
  }
  config.num_heads = hidden / config.head_k_dim;
  config.head_v_dim = hidden / config.num_heads;
  if (config.num_heads > kMaxGatedHeads || hidden % config.num_heads != 0 ||
      !IsHeadDim(config.head_v_dim)) {
    reader.Refuse("expand_ratio",
                  absl::StrCat("with hidden_size ", hidden, " it makes ", config.num_heads,
                               " heads, at most ", kMaxGatedHeads, ", and ", config.head_v_dim,
                               " value channels a head, a multiple of ", kGatedDimMultiple,
                               " up to ", kMaxGatedDim, " that must divide hidden_size"));
  }
  // Where both are given, fla's layer goes by expand_ratio.
  if (reader.Has("num_heads")) reader.Int("num_heads", config.num_heads, 1, INT32_MAX);
}

}  // namespace

absl::StatusOr<Hgrn2Config> ReadHgrn2Config(JsonReader& reader) {
  Hgrn2Config config = {};
  config.trunk = ReadFlaTrunk(reader, {});
  ReadHeads(reader, config);
  config.conv = ReadFlaShortConv(reader);
  config.use_lower_bound = reader.Bool("use_lower_bound", true);
  if (config.use_lower_bound && config.ForgetDim() != config.trunk.hidden_size) {
    reader.Refuse("use_lower_bound",
                  absl::StrCat("it needs hidden_size, ", config.trunk.hidden_size,
                               ", to be a multiple of expand_ratio, ", config.head_k_dim));
  }
  config.elementwise_affine = ReadFlaAffine(reader);
  RefuseFlaHybrids(reader);
  ReadFlaMode(reader, "chunk");
  reader.Bool("fuse_norm", true);  // the same function by the same names
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
