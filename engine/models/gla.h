// Gated linear attention: how a GLA layer turns x into queries, keys, values and gate, and back.
//
//   q, k, v, g, a = norm(x) W   (one product; a is the gate's low-rank activation)
//   q, k, v = shortconv(q, k, v)                       if use_short_conv
//   log_decay = max(logsigmoid(a W2 + b) / 16, clamp_min);  q, k = feature_map(q), feature_map(k)
//   o = GatedLinearAttention(q, k, v, log_decay), scale K^-0.5
//   x += (rmsnorm_per_head(o) * swish(g)) Wo;  x += swiglu(norm(x) Wgu) Wd
//
// Source: Yang et al. 2023 (arXiv 2312.06635); fla/layers/gla.py and fla/models/gla (0.6.0).
#pragma once

#include "engine/architecture.h"
#include "engine/models/gla_config.h"

namespace sluice {

Architecture MakeGla(const GlaConfig& config, const Compute& compute);

}  // namespace sluice
