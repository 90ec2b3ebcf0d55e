// Gated random feature attention: a Gaussian kernel by random features, and a scalar forget gate.
//
//   q, k <- q / sqrt(sum(q^2) + K eps), likewise k, per head
//   phi(u) = D^-1/2 [sin(W u), cos(W u)], W [D, K] the head's own random features
//   g_t = sigmoid((x Wg + bg)_head)
//   S_t = g_t S_{t-1} + (1 - g_t) phi(k_t)^T v_t;  z_t = g_t z_{t-1} + (1 - g_t) phi(k_t)
//   o_t = phi(q_t) S_t / (phi(q_t) . z_t + normalizer_eps)
//   x += o Wo;  x += swiglu(norm(x) Wgu) Wd
//
// W is read from the checkpoint, so that nothing is drawn here.
//
// Source: Peng et al. 2021 (arXiv 2103.02143), sections 3.1 and 3.2 (RFA-Gate). No library has such
// a model; tensors are named as in fla's layers.
#pragma once

#include "engine/architecture.h"
#include "engine/models/gated_rfa_config.h"

namespace sluice {

Architecture MakeGatedRfa(const GatedRfaConfig& config, const Compute& compute);

}  // namespace sluice
