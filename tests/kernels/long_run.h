// What the long runs of the recurrences share: their length, their rows, and how numbers are drawn.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "tests/kernels/random_data.h"

namespace sluice {

constexpr int64_t kLongTokens = 100'000;
constexpr int64_t kLongBlock = 1'000;  // the last outputs that are looked at
constexpr int32_t kLongRows = 2;
constexpr int32_t kLongSlots = 4;
inline const std::vector<int32_t> kLongSlotOfRow = {2, 0};

// Of the states and of the last outputs, relative to their size.
struct LongRunErrors {
  double state;
  double out;
};

// Uniform with deviation 1: as good as normal here, and drawn faster.
inline std::vector<float> Drawn(Random& random, int64_t count, DType dtype) {
  return Rounded(random.Uniforms(count, -std::sqrt(3.0), std::sqrt(3.0)), dtype);
}

}  // namespace sluice
