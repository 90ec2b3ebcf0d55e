#include "engine/models/gated_retnet.h"

#include "engine/models/fla_blocks.h"
#include "engine/models/retention.h"

namespace sluice {

Architecture MakeGatedRetNet(const GatedRetNetConfig& config, const Compute& compute) {
  const RetentionSpec spec = {.hidden_size = config.trunk.hidden_size,
                              .heads = config.heads,
                              .rotary_base = config.rope_theta,
                              .gate_logit_normalizer = config.gate_logit_normalizer,
                              .norm = config.elementwise_affine ? "o_norm" : "",
                              .norm_eps = config.trunk.norm_eps};
  return MakeFlaBlocks(config.trunk, MakeRetention(spec, compute), compute);
}

}  // namespace sluice
