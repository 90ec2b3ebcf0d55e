// The parts of one head's state, as state_format.h lays them out.
#pragma once

#include <cstdint>

#include "kernels/gated_shape.h"

namespace sluice {

// What the format does not have is of no meaning.
struct HeadState {
  float* matrix;           // [K, V] in the format's type
  float* scales;           // [K], of int8
  float* count;            // an int32, of a ring
  float* log_decay;        // [K], of a ring
  float* value_log_decay;  // [V], of a ring with gated values
  float* keys;             // [L - 1, K]
  float* values;           // [L - 1, V]
};

// Of the layer whose part of a slot begins at `state`; `parts` are those of the shape.
constexpr HeadState ViewHead(const GatedShape& shape, const StateParts& parts, float* state,
                             int64_t head) {
  const int64_t key_dim = shape.key_dim;
  const int64_t value_dim = shape.value_dim;
  const int64_t held = shape.state.Held();
  return {state + head * key_dim * value_dim * StateTypeBytes(shape.state.type) / 4,
          state + parts.scales + head * key_dim,
          state + parts.counts + head,
          state + parts.log_decay + head * key_dim,
          state + parts.value_log_decay + head * value_dim,
          state + parts.keys + head * held * key_dim,
          state + parts.values + head * held * value_dim};
}
constexpr HeadState ViewHead(const GatedShape& shape, float* state, int64_t head) {
  return ViewHead(shape, shape.Parts(), state, head);
}

}  // namespace sluice
