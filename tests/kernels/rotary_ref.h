// Oracle of kernels/rotary.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/rotary.h"

namespace sluice::ref {

inline double RotaryAngle(int32_t position, int64_t pair, int64_t dim, double base) {
  const float exponent = static_cast<float>(2 * pair) / static_cast<float>(dim);
  const float frequency = 1.0F / static_cast<float>(std::pow(base, double{exponent}));
  if (position < kRotaryRounded) return static_cast<float>(position) * frequency;
  // 31 and 24 bits; a long double holds 64, and less than a turn is left for the double.
  const long double turn = 6.283185307179586476925286766559L;
  return static_cast<double>(std::fmod(position * static_cast<long double>(frequency), turn));
}

// x: rows of heads * dim numbers.
inline std::vector<double> Rotate(const std::vector<float>& x,
                                  const std::vector<int32_t>& positions, int64_t dim, double base) {
  std::vector<double> y(x.size());
  const int64_t width = static_cast<int64_t>(x.size() / positions.size());
  const int64_t half = dim / 2;
  for (int64_t head = 0; head < static_cast<int64_t>(x.size()); head += dim) {
    for (int64_t c = 0; c < half; ++c) {
      const double angle = RotaryAngle(positions[head / width], c, dim, base);
      const double first = x[head + c];
      const double second = x[head + half + c];
      y[head + c] = first * std::cos(angle) - second * std::sin(angle);
      y[head + half + c] = first * std::sin(angle) + second * std::cos(angle);
    }
  }
  return y;
}

}  // namespace sluice::ref
