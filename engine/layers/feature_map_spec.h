// The feature maps of linear attention: what each head's queries or keys go through before the
// recurrence. A learned map has one weight for all heads.
//
// With x of one head, K channels, and L, b weights of the map:
//   kIdentity, kRelu   x, max(x, 0)
//   kElu               x + 1 where x > 0, else exp(x)
//   kElementwise       (x L1 + b1) * (x L2 + b2)
//   kT2r               max(x L, 0)
//   kHedgehog          softmax([2y, -2y]), y = x L + b                              2K features
//   kDpfp              z * roll(z, j) for j = 1..4, z = [max(x, 0), max(-x, 0)]     8K features
//
// Source: fla/layers/linear_attn.py and fla/modules/feature_map.py (0.6.0).
#pragma once

#include <cstdint>

namespace sluice {

enum class FeatureMapName : uint8_t {
  kIdentity,
  kRelu,
  kElu,
  kElementwise,
  kT2r,
  kHedgehog,
  kDpfp,
};

struct FeatureMapSpec {
  FeatureMapName map;
  int32_t dim;  // K

  // Of a head.
  constexpr int32_t Features() const {
    if (map == FeatureMapName::kHedgehog) return 2 * dim;
    return map == FeatureMapName::kDpfp ? 8 * dim : dim;
  }
  constexpr bool Learned() const {
    return map == FeatureMapName::kElementwise || map == FeatureMapName::kT2r ||
           map == FeatureMapName::kHedgehog;
  }
};

}  // namespace sluice
