// RWKV-6 as flash-linear-attention trains it: a vector gate on the key side, read before the
// update.
//
// All norms are layer norms; that of the embedding is there if norm_first. With h = norm(x) and the
// token shift d_t = h_{t-1} - h_t (h before the first token is zero), a layer is
//
//   y = tanh((h + d * mu) W0), five rows a token
//   m_n = y_n W_n + b_n                              n = r, w, k, v, g
//   r, k, v, g = (h + d * m_n) Wn
//   log a = -exp(tanh((h + d * m_w) L1) L2 + c)
//   o_t = r_t (S_{t-1} + diag(u) k_t^T v_t);  S_t = diag(a_t) S_{t-1} + k_t^T v_t     each head
//   x += (layernorm_per_head(o) * silu(g)) Wo
//
//   x += sigmoid((h + d * mu_r) Wr) * (act((h + d * mu_k) Wk) Wv)     h = norm(x), its own shift
//
// The state holds both last h of a sequence beside S.
//
// Source: Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892); fla/layers/rwkv6.py and
// fla/models/rwkv6/modeling_rwkv6.py (0.6.0), whose checkpoints this reads.
#pragma once

#include "engine/architecture.h"
#include "engine/models/rwkv6_config.h"

namespace sluice {

Architecture MakeRwkv6(const Rwkv6Config& config, const Compute& compute);

}  // namespace sluice
