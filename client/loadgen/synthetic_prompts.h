// Prompts that are made up.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "client/loadgen/length_distribution.h"
#include "client/loadgen/prompt.h"
#include "client/loadgen/random_stream.h"

namespace sluice {

struct SyntheticOptions {
  bool words = false;         // else random token ids
  double shared_share = 0;    // of the prompts that begin with a shared prefix
  int64_t prefixes = 1;       // different ones, each as likely
  int64_t prefix_tokens = 0;  // of each, in front of what is drawn; words, if `words`
};

// Random words, or random token ids that are none of the tokens that end a sequence. Thread-safe.
class SyntheticPrompts {
 public:
  // A model has at least one token that does not end a sequence. `seed` makes the prefixes.
  SyntheticPrompts(const SyntheticOptions& options, LengthDistribution length, uint64_t seed,
                   uint32_t vocab_size, const std::vector<uint32_t>& eos_token_ids);

  // At most `max_tokens` (of which words are taken to be one each), at least one.
  Prompt Draw(RandomStream* random, int64_t max_tokens) const;

 private:
  uint32_t DrawToken(RandomStream* random) const;
  std::string DrawWords(RandomStream* random, int64_t count) const;
  std::vector<uint32_t> DrawTokens(RandomStream* random, int64_t count) const;

  SyntheticOptions options_;
  LengthDistribution length_;
  uint32_t vocab_size_;
  std::vector<uint32_t> eos_token_ids_;
  std::vector<Prompt> prefixes_;
};

}  // namespace sluice
