#include "client/loadgen/synthetic_prompts.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace sluice {
namespace {

constexpr uint64_t kPrefixStream = ~uint64_t{1};  // which no request has

constexpr std::array<absl::string_view, 64> kWords = {
    "the",    "of",     "and",    "a",       "to",      "in",     "he",      "was",
    "that",   "it",     "his",    "her",     "with",    "as",     "had",     "for",
    "she",    "not",    "at",     "but",     "be",      "on",     "they",    "him",
    "which",  "have",   "said",   "all",     "from",    "were",   "by",      "this",
    "when",   "one",    "there",  "so",      "what",    "would",  "them",    "some",
    "house",  "river",  "night",  "morning", "table",   "letter", "window",  "garden",
    "street", "horse",  "winter", "water",   "light",   "paper",  "silver",  "stone",
    "voice",  "summer", "mother", "friend",  "journey", "answer", "evening", "fire"};

}  // namespace

SyntheticPrompts::SyntheticPrompts(const SyntheticOptions& options, LengthDistribution length,
                                   uint64_t seed, uint32_t vocab_size,
                                   const std::vector<uint32_t>& eos_token_ids)
    : options_(options),
      length_(std::move(length)),
      vocab_size_(vocab_size),
      eos_token_ids_(eos_token_ids) {
  if (options_.shared_share <= 0) return;
  RandomStream random(seed, kPrefixStream);
  for (int64_t i = 0; i < options_.prefixes; ++i) {
    Prompt& prefix = prefixes_.emplace_back();
    if (options_.words) {
      prefix.text = DrawWords(&random, options_.prefix_tokens);
    } else {
      prefix.token_ids = DrawTokens(&random, options_.prefix_tokens);
    }
  }
}

uint32_t SyntheticPrompts::DrawToken(RandomStream* random) const {
  for (;;) {
    const auto token = static_cast<uint32_t>(random->Whole(0, int64_t{vocab_size_} - 1));
    const auto end = eos_token_ids_.end();
    if (std::find(eos_token_ids_.begin(), end, token) == end) return token;
  }
}

std::vector<uint32_t> SyntheticPrompts::DrawTokens(RandomStream* random, int64_t count) const {
  std::vector<uint32_t> tokens;
  tokens.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) tokens.push_back(DrawToken(random));
  return tokens;
}

std::string SyntheticPrompts::DrawWords(RandomStream* random, int64_t count) const {
  std::string text;
  for (int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(random->Whole(0, int64_t{kWords.size()} - 1));
    absl::StrAppend(&text, i == 0 ? "" : " ", kWords[at]);
  }
  return text;
}

Prompt SyntheticPrompts::Draw(RandomStream* random, int64_t max_tokens) const {
  const bool shared = random->Uniform() < options_.shared_share;
  const int64_t which = random->Whole(0, options_.prefixes - 1);
  const int64_t room = max_tokens - (shared ? options_.prefix_tokens : 0);
  const int64_t count = length_.Draw(random, 1, std::max<int64_t>(room, 1));
  Prompt prompt;
  if (shared) prompt = prefixes_[static_cast<size_t>(which)];
  if (options_.words) {
    const std::string own = DrawWords(random, count);
    prompt.text = shared ? absl::StrCat(*prompt.text, " ", own) : own;
    return prompt;
  }
  const std::vector<uint32_t> own = DrawTokens(random, count);
  prompt.token_ids.insert(prompt.token_ids.end(), own.begin(), own.end());
  return prompt;
}

}  // namespace sluice
