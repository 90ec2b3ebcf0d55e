// The keys of a config.json of model_type "xlstm", as transformers writes it.
//
// Source: configuration_xlstm.py and modeling_xlstm.py of transformers (5.23).
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "engine/json.h"

namespace sluice {

struct XlstmConfig {
  int32_t hidden_size;        // D: multiple of 8, 8..16384
  int32_t num_layers;         // 1..256
  int32_t vocab_size;         // 8..1,000,000
  int32_t intermediate_size;  // of the MLP: multiple of 8, 8..131072
  int32_t num_heads;          // H: 1..256
  int32_t head_k_dim;         // K: multiple of 16, 16..512
  int32_t head_v_dim;         // V: multiple of 16, 16..512
  float norm_eps;             // of every norm
  float eps;                  // of the normaliser: > 0
  float gate_soft_cap;        // > 0
  float logit_soft_cap;       // > 0
  bool use_bias;              // of products and norms; the input and forget gates always have one
  bool fused;                 // the same function: products of one input are one tensor

  int32_t KeyDim() const { return num_heads * head_k_dim; }
  int32_t ValueDim() const { return num_heads * head_v_dim; }
};

// Reads every key that changes the function; absent ones have transformers' default. Keys that do
// not change it are ignored, those of other functions are refused by name. The caller reads the
// keys that all models share and then asks `reader` to Finish.
absl::StatusOr<XlstmConfig> ReadXlstmConfig(JsonReader& reader);

}  // namespace sluice
