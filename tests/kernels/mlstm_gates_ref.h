// Oracle of kernels/mlstm_gates.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace sluice::ref {

struct MlstmGatesResult {
  std::vector<double> log_decay;  // [tokens, heads], as the others
  std::vector<double> input_scale;
  std::vector<double> log_floor;
  std::vector<double> max;  // [heads], after the last token
};

inline double SoftCap(double x, double cap) { return cap == 0 ? x : cap * std::tanh(x / cap); }

// One sequence. input, forget: [tokens, heads]; biases: [heads] or empty; max: [heads], before the
// first token.
inline MlstmGatesResult MlstmGates(const std::vector<float>& input,
                                   const std::vector<float>& forget,
                                   const std::vector<float>& input_bias,
                                   const std::vector<float>& forget_bias,
                                   const std::vector<float>& max, double soft_cap) {
  MlstmGatesResult result;
  result.max.assign(max.begin(), max.end());
  for (size_t at = 0; at < input.size(); ++at) {
    const size_t head = at % max.size();
    const double i =
        SoftCap(input[at] + (input_bias.empty() ? 0.0 : double{input_bias[head]}), soft_cap);
    const double z =
        SoftCap(forget[at] + (forget_bias.empty() ? 0.0 : double{forget_bias[head]}), soft_cap);
    const double f = std::min(z, 0.0) - std::log1p(std::exp(-std::abs(z)));
    const double before = result.max[head];
    const double m = std::max(f + before, i);
    result.log_decay.push_back(f + before - m);
    result.input_scale.push_back(std::exp(i - m));
    result.log_floor.push_back(-m);
    result.max[head] = m;
  }
  return result;
}

}  // namespace sluice::ref
