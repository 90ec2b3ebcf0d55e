// The keys that flash-linear-attention's configurations share, and what it makes of them.
//
// Every function keeps its first error in the reader and gives values within limits all the same.
//
// Source: fla/models/*/configuration_*.py, fla/modules/mlp.py (0.6.0).
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/types/span.h"
#include "engine/json.h"

namespace sluice {

// What a configuration class has for keys that are absent.
struct FlaDefaults {
  int64_t hidden_size = 2048;
  int64_t num_layers = 24;
  int64_t num_heads = 4;
  double expand_k = 1.0;
  double expand_v = 1.0;
  double hidden_ratio = 4;
  bool gated_mlp = true;  // of three products: its intermediate size is two thirds of the ratio's
  double norm_eps = 1e-6;
};

// Around the mixers.
struct FlaTrunk {
  int32_t hidden_size;        // D: multiple of 8, 8..16384
  int32_t num_layers;         // 1..256
  int32_t vocab_size;         // 8..1,000,000
  int32_t intermediate_size;  // multiple of 8, 8..131072
  float norm_eps;             // of every norm
  bool tie_word_embeddings;
};
// hidden_size, num_hidden_layers, vocab_size, intermediate_size or hidden_ratio, norm_eps and
// tie_word_embeddings.
FlaTrunk ReadFlaTrunk(JsonReader& reader, const FlaDefaults& defaults);

struct FlaHeads {
  int32_t num_heads;     // H: 1..256
  int32_t num_kv_heads;  // divides H
  double expand_k;       // H * head_k_dim / D
  double expand_v;       // H * head_v_dim / D
  int32_t head_k_dim;    // K: multiple of 16, 16..512
  int32_t head_v_dim;    // V: multiple of 16, 16..512

  int32_t KeyDim() const { return num_heads * head_k_dim; }       // of q
  int32_t ValueDim() const { return num_heads * head_v_dim; }     // of the output and its gate
  int32_t KvKeyDim() const { return num_kv_heads * head_k_dim; }  // of k, and of gates beside it
  int32_t KvValueDim() const { return num_kv_heads * head_v_dim; }
};
// num_heads, num_kv_heads, expand_k and expand_v. Models without `grouped` heads have no
// num_kv_heads.
FlaHeads ReadFlaHeads(JsonReader& reader, int32_t hidden_size, const FlaDefaults& defaults,
                      bool grouped = true);

struct FlaShortConv {
  bool use;
  int32_t size;  // taps: 2..8; means nothing without `use`
};
// use_short_conv, conv_size and share_conv_kernel.
FlaShortConv ReadFlaShortConv(JsonReader& reader);

// elementwise_affine, of which fla takes null as false.
bool ReadFlaAffine(JsonReader& reader, bool fallback = true);

// fuse_norm, as it shows: in the name of the module that norms a head's output. Beside an output
// gate the two are one module.
std::string_view ReadFlaGateNormName(JsonReader& reader, bool use_output_gate);

// attn_mode, one of fla's forms of the same function, of which only some layers have `parallel`.
void ReadFlaMode(JsonReader& reader, std::string_view fallback, bool parallel = false);

// Refuses a config.json without the keys that have no default: those of families that no library
// defines.
void RequireKeys(JsonReader& reader, absl::Span<const std::string_view> keys);
// These are, of the families around fla's blocks.
inline constexpr std::string_view kRequiredTrunkKeys[] = {"vocab_size", "hidden_size",
                                                          "num_hidden_layers", "num_heads"};

// Refuses by name what makes another function of any of these models: softmax attention layers,
// attention residuals, an MLP activation other than `hidden_act`, unless that is null because
// the family reads the key itself. Ignores the choice of fused kernels and training losses.
void RefuseFlaHybrids(JsonReader& reader, const char* hidden_act = "swish");

}  // namespace sluice
