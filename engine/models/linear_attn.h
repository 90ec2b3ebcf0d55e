// Linear attention with feature maps: no gate, no decay.
//
//   q, k = phi_q(x Wq), phi_k(x Wk) per head;  q /= sum(q) + 1e-4 if norm_q, k likewise
//   S_t = S_{t-1} + k_t^T v_t;  n_t = n_{t-1} + k_t
//   o_t = scale q_t S_t, scale = F^-1/2 of F features;  o_t /= scale q_t . n_t + 1e-10
//                                                       if norm_feature_map
//   x += rmsnorm_per_head(o) Wo;  x += swiglu(norm(x) Wgu) Wd
//
// Source: Katharopoulos et al. 2020 (arXiv 2006.16236); fla/layers/linear_attn.py and
// fla/models/linear_attn (0.6.0).
#pragma once

#include "engine/architecture.h"
#include "engine/models/linear_attn_config.h"

namespace sluice {

Architecture MakeLinearAttn(const LinearAttnConfig& config, const Compute& compute);

}  // namespace sluice
