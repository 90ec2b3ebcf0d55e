// Mixes of each token with the one before it, which are what RWKV's products read.
//
//   d_t = h_{t-1} - h_t      mix_i = h + d * (mu_i + m_i)
//
// The last token of a sequence is part of its state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/layers/compute.h"
#include "engine/layers/state_layout.h"
#include "engine/layers/sublayer.h"

namespace sluice {

class TokenMix {
 public:
  // Adds the last token to the layer's state, by that name.
  TokenMix(int32_t hidden_size, std::string name, StateLayout* state);

  // `count` mixes without m: mu float32 [count, D], mixed [count, rows, D]; and d [rows, D], unless
  // `delta` is null. The state moves on: once a step.
  void Shift(const Compute& compute, const SublayerContext& context, const float* mu, int32_t count,
             std::byte* mixed, std::byte* delta) const;
  // `count` more: mixed [count, rows, D] holds m before.
  void Mix(const Compute& compute, const SublayerContext& context, const std::byte* delta,
           const float* mu, int32_t count, std::byte* mixed) const;

 private:
  int32_t hidden_size_;
  int64_t offset_;  // of the state
};

}  // namespace sluice
