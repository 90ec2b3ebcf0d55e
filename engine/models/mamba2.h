// Mamba-2: gated linear attention with one decay a head and token, between a short convolution and
// a gated norm.
//
//   z, x | B | C, dt = norm(h) Win
//   x, B, C = shortconv(x | B | C)
//   dt = clamp(softplus(dt + dt_bias), dt_min, dt_max)            a head
//   S_t = exp(-exp(A_log) dt_t) S_{t-1} + dt_t B_t^T x_t;  y_t = C_t S_t + D x_t
//   h += norm(y * silu(z)) Wout
//
// B and C are shared by the heads of a group, and the norm is one of each group's channels.
//
// Source: Dao & Gu 2024 (arXiv 2405.21060); Mamba2Mixer in transformers (5.23),
// fla/layers/mamba2.py (0.6.0). Before 5.23, transformers normed all groups at once, unlike the
// checkpoints' own code.
#pragma once

#include "engine/architecture.h"
#include "engine/models/mamba2_config.h"

namespace sluice {

Architecture MakeMamba2(const Mamba2Config& config, const Compute& compute);

}  // namespace sluice
