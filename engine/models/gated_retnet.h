// Gated RetNet: retention whose decay depends on the token (retention.h), and the gated MLP.
//
// Source: the gated retention of Sun et al. 2024 (arXiv 2405.05254), section 3.3. No library has
// such a model; tensors are named as in fla's layers.
#pragma once

#include "engine/architecture.h"
#include "engine/models/gated_retnet_config.h"

namespace sluice {

Architecture MakeGatedRetNet(const GatedRetNetConfig& config, const Compute& compute);

}  // namespace sluice
