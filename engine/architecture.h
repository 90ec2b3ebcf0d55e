// What a family gives to Model: its residual blocks, its state, and the names around them.
//
// A family is one file under engine/models: its tensor names, and how a mixer turns x into q, k, v
// and gate, and the output back into x. Everything else (embedding, norms, head) is Model's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/layers/compute.h"
#include "engine/layers/norm_layer.h"
#include "engine/layers/state_layout.h"
#include "engine/layers/sublayer.h"
#include "engine/model_config.h"

namespace sluice {

// For those who ask what a state is made of.
struct StateShape {
  int32_t heads;     // of queries
  int32_t kv_heads;  // of states
  int32_t key_dim;
  int32_t value_dim;
};

// x += sublayer(norm(x)), where the norm is <layer prefix><norm>.weight.
struct ResidualBlock {
  std::string norm;
  std::unique_ptr<Sublayer> sublayer;
};

struct Architecture {
  std::string embedding = "model.embeddings.weight";
  std::string embedding_norm;            // of what the first layer reads; empty without one
  std::string layers = "model.layers.";  // then the layer's number and a dot
  std::string final_norm = "model.norm";
  std::string head = "lm_head.weight";
  NormSpec norm;                      // of blocks, and the others unless they say otherwise
  std::optional<NormSpec> last_norm;  // of the final one
  float logit_cap = 0;                // logits become cap * tanh(logits / cap); 0 leaves them
  std::string gate;                   // of the recurrence, for people: "vector, on the key side"
  bool decays = true;                 // whether states forget; if not, they must not be rounded
  StateShape state_shape;
  StateLayout layer_state;
  std::vector<ResidualBlock> blocks;  // of each layer, in order
};

// The family that config.json's model_type names.
Architecture MakeArchitecture(const ModelConfig& config, const Compute& compute);

}  // namespace sluice
