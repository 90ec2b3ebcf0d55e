// Which tokens a sequence has seen, for the sampling penalties.
//
// One table of `vocab` words a slot: bit 31 says that the token stood in the prompt, the other bits
// count how often it was generated.
//
// Oracle: tests/kernels/token_counts_ref.h.
#pragma once

#include <cstdint>

namespace sluice {

constexpr uint32_t kInPrompt = uint32_t{1} << 31;

// Marks prompt tokens: counts[slots[r] * vocab + tokens[r]] |= kInPrompt where slots[r] >= 0.
struct MarkPromptArgs {
  int32_t rows;
  int32_t vocab;
  const int32_t* tokens;  // [rows], in [0, vocab)
  const int32_t* slots;   // [rows], or -1 for rows that keep no counts; repeats allowed
  uint32_t* counts;       // [slot count, vocab]
};

}  // namespace sluice
