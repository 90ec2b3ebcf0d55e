// Oracle of kernels/token_shift.h.
#pragma once

#include <cstddef>
#include <vector>

namespace sluice::ref {

struct TokenShiftResult {
  std::vector<double> delta;  // [tokens, dim]
  std::vector<float> last;    // [dim]
  std::vector<double> mixed;  // [mixes, tokens, dim]
};

// One sequence. x: [tokens, dim]; last: the token before it; mu: [mixes, dim].
inline TokenShiftResult TokenShift(const std::vector<float>& x, const std::vector<float>& last,
                                   const std::vector<float>& mu = {}) {
  const size_t dim = last.size();
  TokenShiftResult result;
  for (size_t i = 0; i < x.size(); ++i) {
    result.delta.push_back((i < dim ? double{last[i]} : double{x[i - dim]}) - x[i]);
  }
  for (size_t mix = 0; mix < mu.size(); mix += dim) {
    for (size_t i = 0; i < x.size(); ++i) {
      result.mixed.push_back(x[i] + result.delta[i] * mu[mix + i % dim]);
    }
  }
  result.last.assign(x.end() - static_cast<std::ptrdiff_t>(dim), x.end());
  return result;
}

}  // namespace sluice::ref
