#include "engine/architecture.h"

#include <variant>

#include "engine/models/decaying_fast_weights.h"
#include "engine/models/gated_retnet.h"
#include "engine/models/gated_rfa.h"
#include "engine/models/gla.h"
#include "engine/models/hgrn2.h"
#include "engine/models/linear_attn.h"
#include "engine/models/mamba.h"
#include "engine/models/mamba2.h"
#include "engine/models/retnet.h"
#include "engine/models/rwkv6.h"
#include "engine/models/xlstm.h"

namespace sluice {
namespace {

struct Maker {
  const Compute& compute;
  Architecture operator()(const DecayingFastWeightsConfig& config) const {
    return MakeDecayingFastWeights(config, compute);
  }
  Architecture operator()(const GatedRetNetConfig& config) const {
    return MakeGatedRetNet(config, compute);
  }
  Architecture operator()(const GatedRfaConfig& config) const {
    return MakeGatedRfa(config, compute);
  }
  Architecture operator()(const GlaConfig& config) const { return MakeGla(config, compute); }
  Architecture operator()(const Hgrn2Config& config) const { return MakeHgrn2(config, compute); }
  Architecture operator()(const LinearAttnConfig& config) const {
    return MakeLinearAttn(config, compute);
  }
  Architecture operator()(const RetNetConfig& config) const { return MakeRetNet(config, compute); }
  Architecture operator()(const MambaConfig& config) const { return MakeMamba(config, compute); }
  Architecture operator()(const Mamba2Config& config) const { return MakeMamba2(config, compute); }
  Architecture operator()(const Rwkv6Config& config) const { return MakeRwkv6(config, compute); }
  Architecture operator()(const XlstmConfig& config) const { return MakeXlstm(config, compute); }
};

}  // namespace

Architecture MakeArchitecture(const ModelConfig& config, const Compute& compute) {
  return std::visit(Maker{compute}, config.family);
}

}  // namespace sluice
