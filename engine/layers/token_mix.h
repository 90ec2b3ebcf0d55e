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

  // delta [rows, D] of context.normed. The state moves on: once a step.
  void Shift(const Compute& compute, const SublayerContext& context, std::byte* delta) const;

  // `count` mixes at once: mu float32 [count, D]; mixed [count, rows, D], which with `adds_mixed`
  // holds m before, else m is zero.
  struct Amounts {
    const float* mu;
    int32_t count;
    bool adds_mixed = false;
  };
  void Mix(const Compute& compute, const SublayerContext& context, const std::byte* delta,
           const Amounts& amounts, std::byte* mixed) const;

 private:
  int32_t hidden_size_;
  int64_t offset_;  // of the state
};

}  // namespace sluice
