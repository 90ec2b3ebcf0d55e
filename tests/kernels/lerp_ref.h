// Oracle of kernels/lerp.h.
#pragma once

#include <cstddef>
#include <vector>

namespace sluice::ref {

// x, delta: rows of dim numbers; mu: [count, dim]; mix: [count] as x. Empty mu or mix means zeros.
// [count] as x.
inline std::vector<double> Lerp(const std::vector<float>& x, const std::vector<float>& delta,
                                const std::vector<float>& mu, const std::vector<float>& mix,
                                size_t dim, size_t count = 1) {
  std::vector<double> y;
  for (size_t i = 0; i < count * x.size(); ++i) {
    const size_t at = i % x.size();
    const size_t channel = i / x.size() * dim + at % dim;
    const double amount = (mu.empty() ? 0.0 : double{mu[channel]}) + (mix.empty() ? 0.0 : mix[i]);
    y.push_back(x[at] + delta[at] * amount);
  }
  return y;
}

}  // namespace sluice::ref
