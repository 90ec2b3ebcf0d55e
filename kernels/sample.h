// Draws the next token of each row from its logits, under the row's own sampling parameters.
//
//   l'[v]  = logits[v] + bias[v], then penalties by the sequence's counts:
//            repetition: seen in prompt or output: l' > 0 ? l' / p : l' * p
//            frequency:  l' -= p * (times generated);  presence: l' -= p if generated
//   temperature 0: token = argmax l' (lowest id wins ties)
//   else:          z = l' / temperature; keep the set that passes, in this order,
//                  top_k (the k largest; ties at the k-th all stay),
//                  min_p (softmax(z) over the kept set >= min_p * its max),
//                  top_p (the smallest set of largest probabilities with mass >= top_p; ties at
//                  the edge all stay);
//                  token = argmax over the kept set of z[v] + gumbel(seed, position, v)
//
// The Gumbel trick draws from softmax(z) over the kept set; its uniform numbers are a hash of
// (seed, position, v) (Philox4x32-10), so a row with a seed gets the same draws in any batch and on
// any device. top_p's mass is summed in fixed point (2^-40), so that the sum does not depend on the
// order. Row r's count table, if it keeps one, is raised by the token drawn.
//
// Source: Gumbel 1954 by way of Maddison et al. 2014 (arXiv 1411.0030); Salmon et al. 2011
// (Philox); penalties as in the OpenAI API (presence, frequency) and Keskar et al. 2019 (arXiv
// 1909.05858, repetition). Oracle: tests/kernels/sample_ref.h.
#pragma once

#include <cstdint>

namespace sluice {

struct SampleParams {
  uint64_t seed = 0;
  uint32_t position = 0;            // index of the token being drawn in its sequence
  float temperature = 1.0F;         // >= 0
  int32_t top_k = 0;                // 0: off
  float top_p = 1.0F;               // (0, 1]; 1: off
  float min_p = 0.0F;               // [0, 1]; 0: off
  float repetition_penalty = 1.0F;  // > 0; 1: off
  float presence_penalty = 0.0F;    // 0: off
  float frequency_penalty = 0.0F;   // 0: off
  int32_t slot = -1;                // count table; -1: keeps none
  int32_t bias_begin = 0;           // this row's entries of `bias`
  int32_t bias_count = 0;
};

struct TokenBias {
  int32_t token;  // in [0, vocab), distinct within a row
  float bias;     // finite
};

struct SampleArgs {
  int32_t rows;         // R >= 0
  int32_t vocab;        // >= 8
  const float* logits;  // [R, vocab], finite; a row that is not gets some token of the vocabulary
  const SampleParams* params;  // [R]
  const TokenBias* bias;       // may be null if no row has any
  uint32_t* counts;            // [slot count, vocab] (token_counts.h), or null if no row keeps any
  float* scratch;              // [R, vocab], may be overwritten
  int32_t* tokens;             // [R], out
};

// Bytes that the op has to move: a greedy row reads its logits once.
inline int64_t SampleBytes(const SampleArgs& args) { return int64_t{args.rows} * args.vocab * 4; }

}  // namespace sluice
