// States as they lie in a slot (kernels/state_format.h), written and read by plain loops.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/gated_shape.h"

namespace sluice {

// A slot of StateFloats of the shape: `matrix`, [kv_heads, K, V], rounded, and an empty ring.
std::vector<float> PackState(const GatedShape& shape, const std::vector<float>& matrix);

// What a slot holds: [kv_heads, K, V], the tokens of the ring folded into it, but not rounded.
std::vector<double> UnpackState(const GatedShape& shape, const std::vector<float>& slot);

// How many tokens are in the ring of a head.
int32_t HeldTokens(const GatedShape& shape, const std::vector<float>& slot, int64_t head);

}  // namespace sluice
