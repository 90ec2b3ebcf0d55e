// Oracle of kernels/gather_rows.h.
#pragma once

#include <cstdint>
#include <vector>

namespace sluice::ref {

inline std::vector<float> GatherRows(const std::vector<float>& table, int32_t dim,
                                     const std::vector<int32_t>& indices) {
  std::vector<float> out;
  for (const int32_t index : indices) {
    for (int32_t d = 0; d < dim; ++d) out.push_back(table[int64_t{index} * dim + d]);
  }
  return out;
}

}  // namespace sluice::ref
