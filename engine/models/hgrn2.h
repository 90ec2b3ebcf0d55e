// HGRN-2: a gated recurrence whose keys are what its forget gate leaves.
//
//   q, f, v = norm(x) W;  q, f, v = shortconv(q, f, v), without activation    if use_short_conv
//   a_t = lb + (1 - lb) sigmoid(f);  k = 1 - a_t;  q = silu(q)
//   S_t = diag(a_t) S_{t-1} + k_t^T v_t;  o_t = K^-1/2 q_t S_t
//   x += rmsnorm(o) Wo, the norm over all heads at once;  x += swiglu(norm(x) Wgu) Wd
//
// The lower bounds lb of layer l are the softmax over layers of the checkpoint's lower_bounds,
// summed over layers 1 to l: 0 in the first layer, and growing.
//
// Source: Qin et al. 2024 (arXiv 2404.07904); fla/layers/hgrn2.py and fla/models/hgrn2 (0.6.0).
#pragma once

#include "engine/architecture.h"
#include "engine/models/hgrn2_config.h"

namespace sluice {

Architecture MakeHgrn2(const Hgrn2Config& config, const Compute& compute);

}  // namespace sluice
