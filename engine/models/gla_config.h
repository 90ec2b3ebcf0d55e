// The keys of a config.json of model_type "gla", as flash-linear-attention writes it.
//
// Source: GLAConfig in fla/models/gla/configuration_gla.py, and what fla/layers/gla.py and
// fla/modules/mlp.py (0.6.0) make of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/json.h"
#include "kernels/activation.h"

namespace sluice {

struct GlaConfig {
  int32_t hidden_size;             // D: multiple of 8, 8..16384
  int32_t num_layers;              // 1..256
  int32_t num_heads;               // H: 1..256
  int32_t num_kv_heads;            // divides H
  double expand_k;                 // H * head_k_dim / D
  double expand_v;                 // H * head_v_dim / D
  int32_t head_k_dim;              // K: multiple of 16, 16..512
  int32_t head_v_dim;              // V: multiple of 16, 16..512
  int32_t intermediate_size;       // multiple of 8, 8..131072
  int32_t vocab_size;              // 8..1,000,000
  Activation feature_map;          // of q and k
  bool use_short_conv;             // on q, k and v, with SiLU and without bias
  int32_t conv_size;               // taps: 2..8; means nothing without use_short_conv
  bool use_output_gate;            // swish(g_proj x), multiplied to the normed output
  bool fuse_norm;                  // the same function; see GateNormName
  bool elementwise_affine;         // whether the norm of a head's output has a weight
  float norm_eps;                  // of every RMSNorm
  std::optional<float> clamp_min;  // of the log gate: at most 0
  bool tie_word_embeddings;

  // Fixed in fla: no key of config.json reaches them.
  int32_t gate_low_rank_dim = 16;
  float gate_logit_normalizer = 16;

  int32_t KeyDim() const { return num_heads * head_k_dim; }       // of q
  int32_t ValueDim() const { return num_heads * head_v_dim; }     // of the output and its gate
  int32_t KvKeyDim() const { return num_kv_heads * head_k_dim; }  // of k and the forget gate
  int32_t KvValueDim() const { return num_kv_heads * head_v_dim; }

  // The module of a layer's "attn" whose weight, of shape [head_v_dim], norms a head's output.
  std::string_view GateNormName() const {
    return fuse_norm && use_output_gate ? "g_norm_swish_gate" : "g_norm";
  }
};

// Reads every key that changes the function; absent ones have fla's default. Keys that do not
// change it are ignored, those of other functions (hybrid layers, attention residuals, value gates,
// activations other than swish) are refused by name. The caller reads the keys that all models
// share and then asks `reader` to Finish.
absl::StatusOr<GlaConfig> ReadGlaConfig(JsonReader& reader);

}  // namespace sluice
