// Decaying fast weights: a gate on either side of the state.
//
//   alpha_t = sigmoid(x Wa + ba) [K] and beta_t = sigmoid(x Wb + bb) [V], per head
//   S_t = diag(alpha_t) S_{t-1} diag(beta_t) + k_t^T v_t;  o_t = K^-1/2 q_t S_t
//   x += o Wo;  x += swiglu(norm(x) Wgu) Wd
//
// Source: Mao 2022 (arXiv 2210.04243). No library has such a model; tensors are named as in fla's
// layers.
#pragma once

#include "engine/architecture.h"
#include "engine/models/decaying_fast_weights_config.h"

namespace sluice {

Architecture MakeDecayingFastWeights(const DecayingFastWeightsConfig& config,
                                     const Compute& compute);

}  // namespace sluice
