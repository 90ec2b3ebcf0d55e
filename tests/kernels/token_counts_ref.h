// Oracle of kernels/token_counts.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/token_counts.h"

namespace sluice::ref {

inline void MarkPrompt(const std::vector<int32_t>& tokens, const std::vector<int32_t>& slots,
                       int32_t vocab, std::vector<uint32_t>* counts) {
  for (size_t r = 0; r < tokens.size(); ++r) {
    if (slots[r] >= 0) (*counts)[int64_t{slots[r]} * vocab + tokens[r]] |= kInPrompt;
  }
}

}  // namespace sluice::ref
