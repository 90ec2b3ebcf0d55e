#include "engine/models/rwkv6_config.h"

#include <string>

#include "engine/models/activation_names.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr FlaDefaults kDefaults = {
    .expand_k = 0.5, .hidden_ratio = 3.5, .gated_mlp = false, .norm_eps = 1e-5};
constexpr int64_t kMaxMixRank = 4096;
constexpr int64_t kMaxDecayRank = 16384;

// RWKV's own code writes the same model_type, and has other keys and tensors.
void RefuseOwnFormat(JsonReader& reader) {
  for (const char* const key :
       {"attention_hidden_size", "head_size", "head_size_divisor", "rescale_every"}) {
    if (!reader.Has(key)) continue;
    reader.Refuse(key, "this is RWKV's own format; that of flash-linear-attention is read");
  }
}

void RefuseOtherFunctions(JsonReader& reader) {
  // Options of old versions of fla.
  for (const char* const option : {"use_glu", "use_short_conv"}) {
    if (reader.Bool(option, false)) reader.Refuse(option, "it is not supported");
  }
  RefuseFlaHybrids(reader, /*hidden_act=*/nullptr);
  // Which of two forms of the same function fla runs.
  const std::string mode = reader.String("attn_mode", "chunk");
  if (mode != "chunk" && mode != "fused_recurrent") {
    reader.Refuse("attn_mode", "it must be chunk or fused_recurrent");
  }
  reader.Ignore({"fuse_norm", "conv_size", "share_conv_kernel"});
}

Activation ReadHiddenAct(JsonReader& reader) {
  if (reader.Has("hidden_act")) {
    return ReadActivation(reader, "hidden_act", ActivationNames::kFla);
  }
  if (reader.IsNull("hidden_act")) reader.Refuse("hidden_act", "the channel mix needs one");
  return Activation::kSquareRelu;
}

}  // namespace

absl::StatusOr<Rwkv6Config> ReadRwkv6Config(JsonReader& reader) {
  RefuseOwnFormat(reader);  // before its sizes are taken for absent
  Rwkv6Config config = {};
  config.trunk = ReadFlaTrunk(reader, kDefaults);
  config.heads = ReadFlaHeads(reader, config.trunk.hidden_size, kDefaults, /*grouped=*/false);
  config.proj_low_rank_dim =
      static_cast<int32_t>(reader.Int("proj_low_rank_dim", 32, 1, kMaxMixRank));
  config.gate_low_rank_dim =
      static_cast<int32_t>(reader.Int("gate_low_rank_dim", 64, 1, kMaxDecayRank));
  config.hidden_act = ReadHiddenAct(reader);
  config.norm_first = reader.Bool("norm_first", true);
  config.norm_bias = reader.Bool("norm_bias", true);
  RefuseOtherFunctions(reader);
  SLUICE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace sluice
