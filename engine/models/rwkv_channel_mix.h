// The channel mix of RWKV, its MLP: an activated product, gated by another, each of them of the
// token mixed with the one before it.
//
//   x += sigmoid((h + d * mu_r) Wr) * (act((h + d * mu_k) Wk) Wv)   h = norm(x), d_t = h_{t-1} -
//   h_t
//
// Source: Peng et al. 2024, "Eagle and Finch" (arXiv 2404.05892); RWKV6FeedForward in
// fla/models/rwkv6/modeling_rwkv6.py (0.6.0).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/layers/compute.h"
#include "engine/layers/projection.h"
#include "engine/layers/scratch_sublayer.h"
#include "engine/layers/state_layout.h"
#include "engine/layers/token_mix.h"
#include "kernels/activation.h"
#include "kernels/device_buffer.h"

namespace sluice {

struct RwkvChannelMixScratch {
  std::byte* mixed;       // [2, rows, D]: of the key, of the receptance
  std::byte* key;         // [rows, I]
  std::byte* value;       // [rows, D]
  std::byte* receptance;  // [rows, D]
};

class RwkvChannelMix : public ScratchSublayer<RwkvChannelMixScratch> {
 public:
  // Adds its last token to the layer's state.
  RwkvChannelMix(const Compute& compute, int32_t hidden_size, int32_t intermediate_size,
                 Activation act, StateLayout* state);

  absl::Status Load(WeightLoader* loader, const std::string& prefix) override;

 private:
  struct Layer {
    DeviceBuffer mu;  // float32 [2, D]: of the key, of the receptance
    Projection key;
    Projection value;
    Projection receptance;
  };
  Scratch LayOut(ScratchArena& arena, const StepSize& size) const override;
  void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) override;

  Compute compute_;
  int32_t hidden_size_;
  int32_t intermediate_size_;
  Activation act_;
  TokenMix token_mix_;
  std::vector<Layer> layers_;
};

}  // namespace sluice
