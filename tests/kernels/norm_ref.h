// Oracle of kernels/norm.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/activation.h"
#include "tests/kernels/activation_ref.h"

namespace sluice::ref {

// `x` and `gate` are runs of `dim` numbers, each normed alone; no weight means ones, no gate none.
inline std::vector<double> Norm(const std::vector<float>& x, const std::vector<float>& weight,
                                const std::vector<float>& gate, Activation act, size_t dim,
                                double eps) {
  std::vector<double> y(x.size());
  for (size_t begin = 0; begin < x.size(); begin += dim) {
    double square = 0;
    for (size_t d = 0; d < dim; ++d) square += double{x[begin + d]} * x[begin + d];
    const double root = std::sqrt(square / static_cast<double>(dim) + eps);
    for (size_t d = 0; d < dim; ++d) {
      y[begin + d] = x[begin + d] / root;
      if (!weight.empty()) y[begin + d] *= weight[d];
      if (!gate.empty()) y[begin + d] *= Activate(act, double{gate[begin + d]});
    }
  }
  return y;
}

}  // namespace sluice::ref
