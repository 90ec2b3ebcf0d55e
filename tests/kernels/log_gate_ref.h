// Oracle of kernels/log_gate.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace sluice::ref {

// log(1 / (1 + exp(-x))) with the larger exponential taken out.
inline double LogSigmoid(double x) { return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x))); }

// x: [rows, rank]; weight: [dim, rank], dim the size of bias.
inline std::vector<double> LogGate(const std::vector<float>& x, const std::vector<float>& weight,
                                   const std::vector<float>& bias, double normalizer,
                                   double clamp_min) {
  const size_t rank = weight.size() / bias.size();
  std::vector<double> log_decay;
  for (size_t row = 0; row < x.size(); row += rank) {
    for (size_t c = 0; c < bias.size(); ++c) {
      double sum = bias[c];
      for (size_t j = 0; j < rank; ++j) sum += double{x[row + j]} * weight[c * rank + j];
      log_decay.push_back(std::max(LogSigmoid(sum) / normalizer, clamp_min));
    }
  }
  return log_decay;
}

}  // namespace sluice::ref
