// Oracle of kernels/logprobs.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace sluice::ref {

// Of one row.
inline std::vector<double> Logprobs(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - max);
  std::vector<double> logprobs;
  logprobs.reserve(logits.size());
  for (const float logit : logits) logprobs.push_back(logit - max - std::log(sum));
  return logprobs;
}

// Tokens of one row, the most likely first, the lower id first in a tie.
inline std::vector<int32_t> TopTokens(const std::vector<float>& logits, size_t top_n) {
  std::vector<int32_t> tokens(logits.size());
  std::iota(tokens.begin(), tokens.end(), 0);
  std::stable_sort(tokens.begin(), tokens.end(),
                   [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  tokens.resize(top_n);
  return tokens;
}

}  // namespace sluice::ref
