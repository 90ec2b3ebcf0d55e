// Oracle of kernels/feature_map.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/feature_map.h"

namespace sluice::ref {

inline std::vector<double> Dpfp(const std::vector<double>& z) {
  std::vector<double> u(2 * z.size());
  for (size_t c = 0; c < z.size(); ++c) {
    u[c] = std::max(z[c], 0.0);
    u[z.size() + c] = std::max(-z[c], 0.0);
  }
  std::vector<double> y(4 * u.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t roll = i / u.size() + 1;
    const size_t c = i % u.size();
    y[i] = u[c] * u[(c + u.size() - roll) % u.size()];
  }
  return y;
}

inline std::vector<double> Hedgehog(const std::vector<double>& z) {
  double largest = 0;
  for (const double value : z) largest = std::max(largest, std::abs(value));
  std::vector<double> y(2 * z.size());
  double sum = 0;
  for (size_t c = 0; c < z.size(); ++c) {
    y[c] = std::exp(2 * (z[c] - largest));
    y[z.size() + c] = std::exp(2 * (-z[c] - largest));
    sum += y[c] + y[z.size() + c];
  }
  for (double& value : y) value /= sum;
  return y;
}

inline std::vector<double> SinCos(const std::vector<double>& z) {
  std::vector<double> y(2 * z.size());
  for (size_t c = 0; c < z.size(); ++c) {
    y[c] = std::sin(z[c]);
    y[z.size() + c] = std::cos(z[c]);
  }
  return y;
}

// One head, its bias added.
inline std::vector<double> Features(FeatureMapKind kind, const std::vector<double>& z) {
  switch (kind) {
    case FeatureMapKind::kIdentity:
      return z;
    case FeatureMapKind::kDpfp:
      return Dpfp(z);
    case FeatureMapKind::kHedgehog:
      return Hedgehog(z);
    case FeatureMapKind::kSinCos:
      return SinCos(z);
  }
  return {};
}

// x: runs of `dim` numbers, one a head; bias: [dim] or empty.
inline std::vector<double> FeatureMap(FeatureMapKind kind, const std::vector<float>& x,
                                      const std::vector<float>& bias, size_t dim, double scale,
                                      double sum_eps) {
  const auto features = static_cast<size_t>(FeatureDim(kind, static_cast<int32_t>(dim)));
  std::vector<double> y(x.size() / dim * features);
  std::vector<double> z(dim);
  for (size_t head = 0; head * dim < x.size(); ++head) {
    for (size_t c = 0; c < dim; ++c) {
      // Rounded as it is before the sine, which would show a rounding of large numbers.
      z[c] = x[head * dim + c] + (bias.empty() ? 0.0F : bias[c]);
    }
    const std::vector<double> mapped = Features(kind, z);
    double sum = sum_eps;
    for (const double value : mapped) sum += scale * value;
    for (size_t c = 0; c < features; ++c) {
      y[head * features + c] = sum_eps > 0 ? scale * mapped[c] / sum : scale * mapped[c];
    }
  }
  return y;
}

}  // namespace sluice::ref
