// RetNet: retention with constant decays (retention.h), and the gated MLP.
//
// Source: Sun et al. 2023 (arXiv 2307.08621); fla/models/retnet (0.6.0).
#pragma once

#include "engine/architecture.h"
#include "engine/models/retnet_config.h"

namespace sluice {

Architecture MakeRetNet(const RetNetConfig& config, const Compute& compute);

}  // namespace sluice
