// Oracle of kernels/decay.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/decay.h"

namespace sluice::ref {

struct DecayGate {
  double log_decay;
  double complement;   // 1 - exp(log_decay)
  double input_scale;  // as the formula has it; zero if it has none
};

// log(1 + exp(x)) with the larger exponential taken out.
inline double Softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// log(exp(a) + exp(b)), both at most zero.
inline double LogAddExp(double a, double b) {
  return std::max(a, b) + std::log1p(std::exp(std::min(a, b) - std::max(a, b)));
}

// One element. Takes the numbers of `args`, not its arrays: `channel` is lower_bound or a_log.
inline DecayGate Decay(const DecayArgs& args, double z, double channel) {
  switch (args.formula) {
    case DecayFormula::kLogSigmoid: {
      const double g = std::max(-Softplus(-z) / args.normalizer, double{args.clamp_min});
      return {g, -std::expm1(g), -std::expm1(g)};
    }
    case DecayFormula::kLowerBound: {
      const double complement = (1 - channel) * std::exp(-Softplus(z));
      const double g = complement < 0.5
                           ? std::log1p(-complement)
                           : LogAddExp(std::log(channel), std::log1p(-channel) - Softplus(-z));
      return {g, complement, 0};
    }
    case DecayFormula::kExponential:
      return {-std::exp(z), -std::expm1(-std::exp(z)), 0};
    case DecayFormula::kSoftplus: {
      const double dt = std::clamp(Softplus(z), double{args.dt_min}, double{args.dt_max});
      const double g = -dt * std::exp(channel);
      return {g, -std::expm1(g), dt};
    }
  }
  return {};
}

// x: [rows, dim], dim the size of bias and of channel.
inline std::vector<DecayGate> Decay(const DecayArgs& args, const std::vector<float>& x,
                                    const std::vector<float>& bias,
                                    const std::vector<float>& channel) {
  std::vector<DecayGate> gates;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t c = i % bias.size();
    gates.push_back(Decay(args, double{x[i]} + bias[c], channel[c]));
  }
  return gates;
}

}  // namespace sluice::ref
