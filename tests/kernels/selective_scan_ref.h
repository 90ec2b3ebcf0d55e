// Oracle of kernels/selective_scan.h, in two forms that are one function.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/activation_ref.h"

namespace sluice::ref {

// One sequence. Empty vectors stand for null.
struct ScanSequence {
  int64_t channels;
  int64_t state_size;
  std::vector<float> x;        // [tokens, channels]
  std::vector<float> dt;       // [tokens, channels]
  std::vector<float> dt_bias;  // [channels] or empty
  std::vector<float> b;        // [tokens, state_size]
  std::vector<float> c;        // [tokens, state_size]
  std::vector<float> a_log;    // [channels, state_size]
  std::vector<float> skip;     // [channels] or empty
  std::vector<float> gate;     // [tokens, channels] or empty
  std::vector<float> state;    // [state_size, channels], before the first token

  int64_t Tokens() const { return static_cast<int64_t>(x.size()) / channels; }
};

struct ScanResult {
  std::vector<double> out;    // [tokens, channels]
  std::vector<double> state;  // [state_size, channels]
};

inline double Softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

inline double ScanStep(const ScanSequence& s, int64_t t, int64_t d) {
  const double bias = s.dt_bias.empty() ? 0 : double{s.dt_bias[d]};
  return Softplus(double{s.dt[t * s.channels + d]} + bias);
}

// What the token's output is made of besides the state: sum is C h.
inline double ScanOutput(const ScanSequence& s, int64_t t, int64_t d, double sum) {
  if (!s.skip.empty()) sum += double{s.skip[d]} * s.x[t * s.channels + d];
  if (s.gate.empty()) return sum;
  const double gate = s.gate[t * s.channels + d];
  return sum * gate * Sigmoid(gate);
}

// Token by token.
inline ScanResult SelectiveScan(const ScanSequence& s) {
  ScanResult result = {std::vector<double>(s.x.size()), {s.state.begin(), s.state.end()}};
  for (int64_t t = 0; t < s.Tokens(); ++t) {
    for (int64_t d = 0; d < s.channels; ++d) {
      const double step = ScanStep(s, t, d);
      double sum = 0;
      for (int64_t n = 0; n < s.state_size; ++n) {
        double& h = result.state[n * s.channels + d];
        const double a = -std::exp(double{s.a_log[d * s.state_size + n]});
        h = std::exp(step * a) * h +
            step * s.b[t * s.state_size + n] * double{s.x[t * s.channels + d]};
        sum += s.c[t * s.state_size + n] * h;
      }
      result.out[t * s.channels + d] = ScanOutput(s, t, d, sum);
    }
  }
  return result;
}

// State [n, d] after token i, where the chunk starts at `begin` in state `before`: that state
// decayed by all steps up to token i's, and what each token j <= i added, decayed by the steps
// after j.
inline double StateInChunk(const ScanSequence& s, int64_t begin, int64_t i, int64_t d, int64_t n,
                           double before) {
  const double a = -std::exp(double{s.a_log[d * s.state_size + n]});
  double h = 0;
  double steps = 0;  // after j
  for (int64_t j = i; j >= begin; --j) {
    const double step = ScanStep(s, j, d);
    h += std::exp(steps * a) * step * s.b[j * s.state_size + n] * s.x[j * s.channels + d];
    steps += step;
  }
  return h + std::exp(steps * a) * before;
}

// In chunks of `chunk` tokens.
inline ScanResult SelectiveScanChunked(const ScanSequence& s, int64_t chunk) {
  ScanResult result = {std::vector<double>(s.x.size()), {s.state.begin(), s.state.end()}};
  for (int64_t i = 0; i < s.Tokens(); ++i) {
    const int64_t begin = i / chunk * chunk;
    const bool is_last = i + 1 == std::min(begin + chunk, s.Tokens());
    for (int64_t d = 0; d < s.channels; ++d) {
      double sum = 0;
      for (int64_t n = 0; n < s.state_size; ++n) {
        double& before = result.state[n * s.channels + d];
        const double h = StateInChunk(s, begin, i, d, n, before);
        sum += s.c[i * s.state_size + n] * h;
        if (is_last) before = h;
      }
      result.out[i * s.channels + d] = ScanOutput(s, i, d, sum);
    }
  }
  return result;
}

}  // namespace sluice::ref
