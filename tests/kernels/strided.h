// Matrices whose rows lie further apart than they are long.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

namespace sluice {

// What Output starts with: NaN in bfloat16 too.
inline const float kPoisonNumber = std::bit_cast<float>(~uint32_t{0});

// Numbers from the first of the first row to the last of the last row.
constexpr int64_t StridedSize(int64_t rows, int64_t cols, int64_t stride) {
  return rows == 0 ? 0 : (rows - 1) * stride + cols;
}

// The rows of `dense` laid `stride` apart with poison between them.
inline std::vector<float> Spread(const std::vector<float>& dense, int64_t cols, int64_t stride) {
  if (cols == 0) return {};
  const int64_t rows = static_cast<int64_t>(dense.size()) / cols;
  std::vector<float> spread(StridedSize(rows, cols, stride), kPoisonNumber);
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(dense.begin() + r * cols, cols, spread.begin() + r * stride);
  }
  return spread;
}

// Columns [begin, begin + cols) of rows that lie `stride` apart.
inline std::vector<float> Columns(const std::vector<float>& spread, int64_t begin, int64_t cols,
                                  int64_t stride) {
  std::vector<float> dense;
  for (int64_t at = begin; at < static_cast<int64_t>(spread.size()); at += stride) {
    const int64_t end = std::min<int64_t>(at + cols, static_cast<int64_t>(spread.size()));
    dense.insert(dense.end(), spread.begin() + at, spread.begin() + end);
  }
  return dense;
}

}  // namespace sluice
