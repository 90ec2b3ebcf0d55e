// Log-probability of one token a row, and the most likely tokens beside it.
//
//   lp[v] = logits[v] - log(sum_u exp(logits[u]))
//
// Of the model's own distribution: before bias, penalties, temperature and truncation.
//
// Oracle: tests/kernels/logprobs_ref.h.
#pragma once

#include <cstdint>

namespace sluice {

constexpr int32_t kMaxTopLogprobs = 32;

struct LogprobsArgs {
  int32_t rows;            // R >= 0
  int32_t vocab;           // >= top_n
  int32_t top_n;           // 0..kMaxTopLogprobs
  const float* logits;     // [R, vocab], finite
  const int32_t* targets;  // [R], in [0, vocab); -1: that row's logprob is written as 0
  float* target_logprobs;  // [R]
  // [R, top_n], most likely first, the lower id first in a tie; null if top_n is 0.
  int32_t* top_tokens;
  float* top_logprobs;
};

// Bytes that the op has to move.
inline int64_t LogprobsBytes(const LogprobsArgs& args) {
  return int64_t{args.rows} * (int64_t{args.vocab} * 4 + 8 + int64_t{args.top_n} * 8);
}

}  // namespace sluice
