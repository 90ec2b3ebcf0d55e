// Rows of weights in eight bits: e4m3 of the Open Compute Project (OCP 8-bit Floating Point
// Specification 1.0, 2023), a sign, four bits of exponent of bias 7, three of fraction. The largest
// number is 448, the smallest 2^-9; there are no infinities.
//
// A row has a scale, a power of two, so that what a code stands for, its number times the scale, is
// a bfloat16 number, and no subnormal one: no rounding follows this one, whoever multiplies by the
// scale, and when.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace sluice {

constexpr float kFloat8Max = 448.0F;
// The exponents of scales: 2^-9 of a scale is a normal number, 448 of it a finite one.
constexpr int32_t kLeastFloat8Exponent = -117;
constexpr int32_t kMostFloat8Exponent = 119;

// The code nearest to `value`, ties to even; of 448, if the value is larger. NaN stays one.
inline uint8_t ToFloat8(float value) {
  constexpr uint32_t kNormal = (127U - 6) << 23;  // bits of 2^-6, the smallest normal number
  constexpr float kFixed = 16384.0F;              // beside which the last bit is 2^-9
  const auto bits = std::bit_cast<uint32_t>(value);
  const float magnitude = std::min(std::bit_cast<float>(bits & 0x7FFFFFFFU), kFloat8Max);
  const auto rest = std::bit_cast<uint32_t>(magnitude);
  const uint32_t normal = ((rest + 0x7FFFFU + ((rest >> 20) & 1U)) >> 20) - ((127U - 7) << 3);
  const uint32_t fixed =
      std::bit_cast<uint32_t>(magnitude + kFixed) - std::bit_cast<uint32_t>(kFixed);
  const uint32_t code = std::min(rest < kNormal ? fixed : normal, 0x7FU);
  return static_cast<uint8_t>(((bits >> 24) & 0x80U) | code);
}

// The largest magnitude of `count` numbers; infinite or NaN if one of them is.
float LargestMagnitude(const float* values, int64_t count);

// The scale of a row whose largest magnitude, finite, is this: the smallest that makes it 448 or
// less, within the exponents above; 1 if it is zero.
float FitFloat8Scale(float largest);

// The codes of `count` numbers over `scale`.
void RoundToFloat8(const float* values, int64_t count, float scale, uint8_t* codes);

}  // namespace sluice
