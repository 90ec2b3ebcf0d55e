// The layers of flash-linear-attention's models: a mixer over time, then the gated MLP, each behind
// a norm of the residual stream.
//
//   x += mixer(rmsnorm(x));  x += (silu(h Wg) * (h Wu)) Wd with h = rmsnorm(x)
//
// Source: fla/models/*/modeling_*.py, fla/modules/mlp.py (0.6.0).
#pragma once

#include <memory>
#include <string>

#include "engine/architecture.h"
#include "engine/models/fla_keys.h"

namespace sluice {

// What a family says of its mixer. `state` is of one layer, as the mixer laid it out.
struct FlaMixer {
  std::string gate;    // for people, as in Architecture
  bool decays = true;  // as in Architecture
  StateShape shape;
  StateLayout state;
  std::unique_ptr<Sublayer> sublayer;
};

Architecture MakeFlaBlocks(const FlaTrunk& trunk, FlaMixer mixer, const Compute& compute);

}  // namespace sluice
