// Retention: rotary queries and keys, one decay a head. What RetNet and Gated RetNet have in
// common.
//
//   q, k = rotary(feature_map(x Wq)), rotary(feature_map(x Wk)), by the token's position
//   S_t = a_t S_{t-1} + k_t^T v_t,  o_t = K^-1/2 q_t S_t
//   x += (rmsnorm_per_head(o) * swish(x Wg)) Wo
//
// The rotation turns channels c and c + K/2 of a head by position * base^(-2c/K). The decay a of
// head h is 1 - 2^(-5-h), or exp(logsigmoid((x Wgk)_h) / normalizer) where it depends on the token.
//
// Source: Sun et al. 2023 (arXiv 2307.08621), equations 5 to 8; fla/layers/multiscale_retention.py
// (0.6.0). Sun et al. 2024 (arXiv 2405.05254), section 3.3, for the decay that is gated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/layers/compute.h"
#include "engine/models/fla_blocks.h"
#include "engine/models/fla_keys.h"
#include "kernels/activation.h"

namespace sluice {

struct RetentionSpec {
  int32_t hidden_size;
  // Heads that share keys and values have decays of their own, hence states of their own.
  FlaHeads heads;
  Activation feature_map = Activation::kNone;
  double rotary_base = 10000;
  std::optional<float> gate_logit_normalizer;  // none: the decay is constant
  bool use_output_gate = true;
  std::string norm;  // the module whose weight norms a head's output; empty without a weight
  float norm_eps;
};

FlaMixer MakeRetention(const RetentionSpec& spec, const Compute& compute);

}  // namespace sluice
