// Oracle of kernels/gated_unit.h.
#pragma once

#include <cstddef>
#include <vector>

#include "tests/kernels/activation_ref.h"

namespace sluice::ref {

// x: [rows, 2 dim]: gate, then up.
inline std::vector<double> GatedUnit(const std::vector<float>& x, size_t dim) {
  std::vector<double> out;
  for (size_t row = 0; row < x.size(); row += 2 * dim) {
    for (size_t c = 0; c < dim; ++c) {
      out.push_back(x[row + c] * Sigmoid(x[row + c]) * x[row + dim + c]);
    }
  }
  return out;
}

}  // namespace sluice::ref
