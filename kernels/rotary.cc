#include "kernels/rotary.h"

#include <cmath>

namespace sluice {

const RotaryFrequencies& FindRotaryFrequencies(double base, int32_t dim) {
  thread_local RotaryFrequencies kept = {};
  if (kept.base == base && kept.dim == dim) return kept;
  kept.base = base;
  kept.dim = dim;
  for (int32_t c = 0; c < dim / 2; ++c) {
    const float exponent = static_cast<float>(2 * c) / static_cast<float>(dim);
    kept.f[c] = 1.0F / static_cast<float>(std::pow(base, double{exponent}));
  }
  return kept;
}

}  // namespace sluice
