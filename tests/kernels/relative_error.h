// How far numbers are from others as a whole.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

namespace sluice {

// ||got - want|| / ||want||, and infinity if a number is none.
template <typename T>
double RelativeError(const std::vector<float>& got, const std::vector<T>& want) {
  double error = got.size() == want.size() ? 0 : INFINITY;
  double size = 0;
  for (size_t i = 0; std::isfinite(error) && i < want.size(); ++i) {
    const double difference = got[i] - double{want[i]};
    error += difference * difference;
    size += double{want[i]} * want[i];
  }
  const double relative = std::sqrt(error / size);
  return std::isfinite(relative) ? relative : INFINITY;
}

}  // namespace sluice
