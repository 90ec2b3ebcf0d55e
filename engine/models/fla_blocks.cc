#include "engine/models/fla_blocks.h"

#include <utility>

#include "engine/layers/swiglu_mlp.h"

namespace sluice {

Architecture MakeFlaBlocks(const FlaTrunk& trunk, FlaMixer mixer, const Compute& compute) {
  Architecture architecture;
  architecture.norm = {.eps = trunk.norm_eps};
  architecture.gate = std::move(mixer.gate);
  architecture.decays = mixer.decays;
  architecture.state_shape = mixer.shape;
  architecture.layer_state = std::move(mixer.state);
  architecture.blocks.push_back({"attn_norm", std::move(mixer.sublayer)});
  architecture.blocks.push_back({"mlp_norm", std::make_unique<SwiGluMlp>(compute, trunk.hidden_size,
                                                                         trunk.intermediate_size)});
  return architecture;
}

}  // namespace sluice
