// Oracle of kernels/sample.h, one row at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "kernels/philox.h"
#include "kernels/sample.h"
#include "kernels/token_counts.h"

namespace sluice::ref {

// Logits after bias and penalties. `counts` is the row's own table, or empty.
inline std::vector<double> PenalizedLogits(const std::vector<float>& logits,
                                           const SampleParams& params,
                                           const std::vector<TokenBias>& bias,
                                           const std::vector<uint32_t>& counts) {
  std::vector<double> penalized(logits.begin(), logits.end());
  for (const TokenBias& entry : bias) penalized[entry.token] += entry.bias;
  for (size_t v = 0; v < counts.size(); ++v) {
    const uint32_t generated = counts[v] & ~kInPrompt;
    double& logit = penalized[v];
    if (counts[v] != 0) {
      const double p = params.repetition_penalty;
      logit = logit > 0 ? logit / p : logit * p;
    }
    logit -= double{params.frequency_penalty} * generated;
    if (generated > 0) logit -= params.presence_penalty;
  }
  return penalized;
}

struct KeptSet {
  std::vector<bool> keeps;
  // How far the nearest decision on a probability was from going the other way.
  double margin = 1;
};

inline void KeepTopK(const std::vector<double>& z, int32_t top_k, KeptSet* kept) {
  if (top_k == 0 || static_cast<size_t>(top_k) >= z.size()) return;
  std::vector<double> sorted = z;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  for (size_t v = 0; v < z.size(); ++v) kept->keeps[v] = z[v] >= sorted[top_k - 1];
}

inline void KeepMinP(const std::vector<double>& z, double min_p, KeptSet* kept) {
  if (min_p == 0) return;
  const double max = *std::max_element(z.begin(), z.end());
  for (size_t v = 0; v < z.size(); ++v) {
    if (!kept->keeps[v] || z[v] == max) continue;
    const double ratio = std::exp(z[v] - max);
    kept->margin = std::min(kept->margin, std::abs(ratio - min_p));
    kept->keeps[v] = ratio >= min_p;
  }
}

// Probabilities are those within the set that is kept so far. A whole run of equal numbers goes in
// at once: ties at the edge all stay.
inline void KeepTopP(const std::vector<double>& z, double top_p, KeptSet* kept) {
  if (top_p == 1) return;
  std::vector<double> sorted;
  for (size_t v = 0; v < z.size(); ++v) {
    if (kept->keeps[v]) sorted.push_back(z[v]);
  }
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  double total = 0;
  for (const double value : sorted) total += std::exp(value - sorted[0]);
  double mass = 0;
  size_t count = 0;
  while (count < sorted.size() && mass < top_p) {
    const double edge = sorted[count];
    for (; count < sorted.size() && sorted[count] == edge; ++count) {
      mass += std::exp(edge - sorted[0]) / total;
    }
    kept->margin = std::min(kept->margin, std::abs(mass - top_p));
  }
  for (size_t v = 0; v < z.size(); ++v) {
    kept->keeps[v] = kept->keeps[v] && z[v] >= sorted[count - 1];
  }
}

inline KeptSet Keep(const std::vector<double>& z, const SampleParams& params) {
  KeptSet kept = {std::vector<bool>(z.size(), true)};
  KeepTopK(z, params.top_k, &kept);
  KeepMinP(z, params.min_p, &kept);
  KeepTopP(z, params.top_p, &kept);
  return kept;
}

inline double Gumbel(uint64_t seed, uint32_t position, uint32_t token) {
  const uint32_t word = Philox::OfTokens(seed, position, token / 4).word[token % 4];
  return -std::log(-std::log(double{UniformOpen(word)}));
}

struct SampleResult {
  // What the token is the argmax of; minus infinity outside the kept set.
  std::vector<double> keys;
  int32_t token;
  double margin;
};

inline SampleResult Sample(const std::vector<float>& logits, const SampleParams& params,
                           const std::vector<TokenBias>& bias,
                           const std::vector<uint32_t>& counts) {
  SampleResult result = {PenalizedLogits(logits, params, bias, counts), 0, 1};
  if (params.temperature > 0) {
    for (double& z : result.keys) z /= params.temperature;
    const KeptSet kept = Keep(result.keys, params);
    result.margin = kept.margin;
    for (size_t v = 0; v < logits.size(); ++v) {
      result.keys[v] = kept.keeps[v] ? result.keys[v] + Gumbel(params.seed, params.position, v)
                                     : -std::numeric_limits<double>::infinity();
    }
  }
  const auto best = std::max_element(result.keys.begin(), result.keys.end());
  result.token = static_cast<int32_t>(best - result.keys.begin());
  return result;
}

}  // namespace sluice::ref
