// Oracle of kernels/norm.h.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/activation.h"
#include "tests/kernels/activation_ref.h"

namespace sluice::ref {

struct NormOptions {
  size_t dim;         // of one group
  size_t groups = 1;  // of a row
  double eps;
  Activation gate_act = Activation::kNone;
  bool center = false;
  bool wide_weight = false;
  bool gate_first = false;
};

// `x` and `gate` are rows of groups * dim numbers; no weight or gate means ones, no bias zeros.
inline std::vector<double> Norm(const std::vector<float>& x, const std::vector<float>& weight,
                                const std::vector<float>& bias, const std::vector<float>& gate,
                                const NormOptions& options) {
  const size_t dim = options.dim;
  const auto gate_of = [&](size_t i) {
    return gate.empty() ? 1.0 : Activate(options.gate_act, double{gate[i]});
  };
  std::vector<double> y(x.begin(), x.end());
  for (size_t begin = 0; begin < y.size(); begin += dim) {
    double sum = 0;
    for (size_t d = begin; d < begin + dim; ++d) {
      if (options.gate_first) y[d] *= gate_of(d);
      sum += y[d];
    }
    const double mean = options.center ? sum / static_cast<double>(dim) : 0.0;
    double square = 0;
    for (size_t d = begin; d < begin + dim; ++d) square += (y[d] - mean) * (y[d] - mean);
    const double root = std::sqrt(square / static_cast<double>(dim) + options.eps);
    for (size_t d = begin; d < begin + dim; ++d) {
      const size_t c = d % (options.wide_weight ? dim * options.groups : dim);
      y[d] = (y[d] - mean) / root;
      if (!weight.empty()) y[d] *= weight[c];
      if (!bias.empty()) y[d] += bias[c];
      if (!options.gate_first) y[d] *= gate_of(d);
    }
  }
  return y;
}

}  // namespace sluice::ref
