// What codes of kernels/float8.h stand for.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/float8.h"

namespace sluice {

// The number of a code; NaN of 0x7F and 0xFF. A subnormal is lent 2^-6 and gives it back, which
// leaves it normalised.
inline float FromFloat8(uint8_t code) {
  const uint32_t rest = code & 0x7FU;
  const uint32_t subnormal = rest < 8 ? 1 : 0;
  const auto lent = std::bit_cast<float>(subnormal * (121U << 23));
  const float magnitude = std::bit_cast<float>((rest << 20) + ((120U + subnormal) << 23)) - lent;
  const uint32_t nan = rest == 0x7F ? 0x7FC00000U : 0U;
  const uint32_t sign = uint32_t{code & 0x80U} << 24;
  return std::bit_cast<float>(sign | nan | std::bit_cast<uint32_t>(magnitude));
}

// Makes the numbers of rows those that their codes stand for, each row with a scale of its own.
inline void RoundRowsThroughFloat8(float* values, int64_t rows, int64_t columns) {
  for (float* row = values; row != values + rows * columns; row += columns) {
    const float scale = FitFloat8Scale(LargestMagnitude(row, columns));
    for (int64_t i = 0; i < columns; ++i) row[i] = FromFloat8(ToFloat8(row[i] / scale)) * scale;
  }
}

}  // namespace sluice
