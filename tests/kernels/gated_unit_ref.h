// Oracle of kernels/gated_unit.h.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/activation.h"
#include "tests/kernels/activation_ref.h"

namespace sluice::ref {

// All of one size. No `up` means ones, no `old` (what out holds before) zeros.
inline std::vector<double> GatedUnit(Activation act, const std::vector<float>& gate,
                                     const std::vector<float>& up, const std::vector<float>& old) {
  std::vector<double> out;
  for (size_t i = 0; i < gate.size(); ++i) {
    const double product = Activate(act, double{gate[i]}) * (up.empty() ? 1.0 : double{up[i]});
    out.push_back(product + (old.empty() ? 0.0 : double{old[i]}));
  }
  return out;
}

}  // namespace sluice::ref
