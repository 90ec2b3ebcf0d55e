// Oracle of kernels/linear.h.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::ref {

// x: [rows, in_dim]; weight: [out_dim, in_dim]; y: [rows, out_dim] to add to, or empty.
inline std::vector<double> Linear(const std::vector<float>& x, const std::vector<float>& weight,
                                  const std::vector<float>& y, int64_t in_dim, int64_t out_dim) {
  const int64_t rows = static_cast<int64_t>(x.size()) / in_dim;
  std::vector<double> result;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t n = 0; n < out_dim; ++n) {
      double sum = y.empty() ? 0.0 : double{y[r * out_dim + n]};
      for (int64_t k = 0; k < in_dim; ++k) {
        sum += double{x[r * in_dim + k]} * weight[n * in_dim + k];
      }
      result.push_back(sum);
    }
  }
  return result;
}

}  // namespace sluice::ref
