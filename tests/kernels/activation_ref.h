// Oracle of kernels/activation.h.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/activation.h"

namespace sluice::ref {

inline double Sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

inline double Activate(Activation act, double x) {
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
  }
  return std::nan("");
}

inline std::vector<double> Activate(Activation act, const std::vector<float>& x) {
  std::vector<double> y;
  y.reserve(x.size());
  for (const float value : x) y.push_back(Activate(act, static_cast<double>(value)));
  return y;
}

}  // namespace sluice::ref
