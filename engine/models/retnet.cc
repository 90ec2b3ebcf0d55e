#include "engine/models/retnet.h"

#include <string>

#include "engine/models/fla_blocks.h"
#include "engine/models/retention.h"

namespace sluice {

Architecture MakeRetNet(const RetNetConfig& config, const Compute& compute) {
  const RetentionSpec spec = {
      .hidden_size = config.trunk.hidden_size,
      .heads = config.heads,
      .feature_map = config.feature_map,
      .use_output_gate = config.use_output_gate,
      .norm = config.elementwise_affine ? std::string(config.gate_norm) : std::string(),
      .norm_eps = config.trunk.norm_eps};
  return MakeFlaBlocks(config.trunk, MakeRetention(spec, compute), compute);
}

}  // namespace sluice
