// Oracle of kernels/lerp.h.
#pragma once

#include <cstddef>
#include <vector>

namespace sluice::ref {

// x, delta: rows of dim numbers; mu: [dim]; mix as x. Empty mu or mix means zeros.
inline std::vector<double> Lerp(const std::vector<float>& x, const std::vector<float>& delta,
                                const std::vector<float>& mu, const std::vector<float>& mix,
                                size_t dim) {
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i) {
    const double amount = (mu.empty() ? 0.0 : double{mu[i % dim]}) + (mix.empty() ? 0.0 : mix[i]);
    y.push_back(x[i] + delta[i] * amount);
  }
  return y;
}

}  // namespace sluice::ref
