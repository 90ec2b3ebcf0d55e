// How a device's result is held against an oracle's, or against another result of the device.
#pragma once

#include <cstddef>
#include <vector>

#include "gtest/gtest.h"

namespace sluice {

struct Tolerance {
  double relative_l2;  // ||got - want|| / ||want||
  double max_error;    // of every element: |got - want| / (|want| + root mean square of want)
};

// Both bounds hold, and no element of `got` is NaN or infinite.
testing::AssertionResult Near(const std::vector<float>& got, const std::vector<double>& want,
                              Tolerance tolerance);

// Every element alone: |got - want| <= relative * |want| + absolute.
testing::AssertionResult EachNear(const std::vector<float>& got, const std::vector<double>& want,
                                  double relative, double absolute);

// The same bits; numbers that are NaN are never the same.
testing::AssertionResult SameBits(const std::vector<float>& a, const std::vector<float>& b);

// Elements [begin, begin + count) of `values`.
template <typename T>
std::vector<T> Part(const std::vector<T>& values, size_t begin, size_t count) {
  const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin);
  return std::vector<T>(first, first + static_cast<std::ptrdiff_t>(count));
}

// Is every number the pattern that Output starts with?
bool AllPoison(const std::vector<float>& values);

}  // namespace sluice
