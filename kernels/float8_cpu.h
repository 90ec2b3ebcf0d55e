// What rows of float8 weights stand for (float8.h), on the CPU. Counts are multiples of 8, and no
// code is NaN's.
#pragma once

#include <cstdint>

namespace sluice {

void WidenFloat8(const uint8_t* codes, int64_t count, float scale, uint16_t* bfloat16);
void WidenFloat8(const uint8_t* codes, int64_t count, float scale, float* to);

}  // namespace sluice
