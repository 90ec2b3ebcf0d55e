// Oracle of kernels/normalizer.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/normalizer.h"

namespace sluice::ref {

// v: runs of `dim` numbers, one a head.
inline std::vector<float> PadValues(const std::vector<float>& v, size_t dim) {
  std::vector<float> out;
  for (size_t begin = 0; begin < v.size(); begin += dim) {
    for (size_t c = 0; c < dim; ++c) out.push_back(v[begin + c]);
    for (size_t c = 0; c < 16; ++c) out.push_back(c == 0 ? 1.0F : 0.0F);
  }
  return out;
}

// x: runs of `dim` + 16 numbers, one a head; log_floor: one number a head, or empty for kSum.
inline std::vector<double> Normalize(NormalizeKind kind, const std::vector<float>& x,
                                     const std::vector<float>& log_floor, size_t dim, double eps) {
  std::vector<double> y;
  for (size_t begin = 0; begin < x.size(); begin += dim + 16) {
    const double d = x[begin + dim];
    const double divisor =
        kind == NormalizeKind::kSum
            ? d + eps
            : std::max(std::abs(d), std::exp(double{log_floor[begin / (dim + 16)]})) + eps;
    for (size_t c = 0; c < dim; ++c) y.push_back(divisor == 0 ? 0 : x[begin + c] / divisor);
  }
  return y;
}

}  // namespace sluice::ref
