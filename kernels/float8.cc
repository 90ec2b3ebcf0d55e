#include "kernels/float8.h"

#include <cmath>

#include "kernels/check.h"

namespace sluice {

// As integers, of which NaN and infinity are the largest, and without branches, so that it is made
// of vector instructions.
float LargestMagnitude(const float* values, int64_t count) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    largest = std::max(largest, std::bit_cast<uint32_t>(values[i]) & 0x7FFFFFFFU);
  }
  return std::bit_cast<float>(largest);
}

float FitFloat8Scale(float largest) {
  SLUICE_CHECK(std::isfinite(largest));
  if (largest == 0) return 1.0F;
  int exponent = 0;
  const float fraction = std::frexp(largest, &exponent);
  const int fit = exponent - (fraction <= kFloat8Max / 512 ? 9 : 8);
  return std::ldexp(1.0F, std::clamp(fit, kLeastFloat8Exponent, kMostFloat8Exponent));
}

void RoundToFloat8(const float* values, int64_t count, float scale, uint8_t* codes) {
  const float inverse = 1 / scale;
  for (int64_t i = 0; i < count; ++i) codes[i] = ToFloat8(values[i] * inverse);
}

}  // namespace sluice
