// Oracle of kernels/activation.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/activation.h"

namespace sluice::ref {

inline double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// `cap` is that of kSoftCap.
inline double Activate(Activation act, double x, double cap = 1) {
  constexpr double kPi = 3.14159265358979323846;
  const double positive = x > 0 ? x : 0;
  switch (act) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return positive;
    case Activation::kSilu:
      return x * Sigmoid(x);
    case Activation::kSigmoid:
      return Sigmoid(x);
    case Activation::kElu1:
      return x > 0 ? x + 1 : std::exp(x);
    case Activation::kSquareRelu:
      return positive * positive;
    case Activation::kGelu:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / kPi) * (x + 0.044715 * x * x * x)));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kLogSigmoid:
      return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x)));
    case Activation::kSoftCap:
      return cap * std::tanh(x / cap);
  }
  return std::nan("");
}

// x: rows as long as the bias, which may be empty for zeros.
inline std::vector<double> Activate(Activation act, const std::vector<float>& x,
                                    const std::vector<float>& bias = {}, double cap = 1) {
  std::vector<double> y;
  y.reserve(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double shift = bias.empty() ? 0.0 : double{bias[i % bias.size()]};
    y.push_back(Activate(act, x[i] + shift, cap));
  }
  return y;
}

}  // namespace sluice::ref
