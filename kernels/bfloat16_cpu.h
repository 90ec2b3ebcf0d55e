// Conversion between float32 and bfloat16 on the CPU. Sizes are multiples of 8.
#pragma once

#include <cstdint>

namespace sluice {

void WidenBFloat16(const uint16_t* from, int64_t count, float* to);

// To nearest, ties to even.
void RoundToBFloat16(const float* from, int64_t count, uint16_t* to);

}  // namespace sluice
