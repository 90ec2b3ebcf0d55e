// Mamba: a short convolution and a selective state space for every channel, with a gate.
//
//   x, z = norm(h) Win                             D channels each
//   x = shortconv(x)
//   r, B, C = x Wx;  dt = r Wdt                    ranks R; N, N
//   y = SelectiveScan(x, softplus(dt + bias), -exp(A_log), B, C) + D x
//   h += (y * silu(z)) Wout
//
// Source: Gu & Dao 2023 (arXiv 2312.00752); MambaMixer in transformers (5.23), fla/layers/mamba.py
// (0.6.0).
#pragma once

#include "engine/architecture.h"
#include "engine/models/mamba_config.h"

namespace sluice {

Architecture MakeMamba(const MambaConfig& config, const Compute& compute);

// The names around the mixers of either Mamba.
Architecture MambaBackbone(const MambaTrunk& trunk);

}  // namespace sluice
