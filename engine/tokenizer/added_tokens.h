// Tokens that are found in a text before the model sees it: control tokens, runs of spaces.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pieces.h"

namespace sluice {

struct AddedToken {
  int32_t id;
  std::string content;     // as the file has it
  std::string normalized;  // as it is looked for, and decoded
  bool single_word;        // not beside a character of a word
  bool lstrip;             // takes the whitespace before it
  bool rstrip;             // takes the whitespace after it
  bool is_normalized;      // looked for in the normalized text, else in the text as given
  bool special;
};

// Finds the leftmost and, of those, the longest of a set of strings. Immutable once filled.
class TokenMatcher {
 public:
  // `index` is the token's place in the list that Cut is given. False when `text` is there already.
  bool Add(std::string_view text, int32_t index);

  bool empty() const { return next_.empty(); }

  // Cuts `text` at the tokens it holds and appends the pieces, moved by `offset`. `at_start` is for
  // the piece that begins `text`.
  void Cut(std::string_view text, const std::vector<AddedToken>& tokens, size_t offset,
           bool at_start, std::vector<Piece>* pieces) const;

 private:
  struct Match {
    int32_t index;  // kNoToken for none
    size_t bytes;
  };

  Match LongestAt(std::string_view text, size_t at) const;

  absl::flat_hash_map<uint64_t, int32_t> next_;  // by node << 8 | byte
  std::vector<int32_t> token_of_node_ = {kNoToken};
  bool begins_[256] = {};  // whether a token begins with the byte
};

// Immutable.
class AddedTokens {
 public:
  // `value` is the file's "added_tokens". Each must have the id that Hugging Face gives it: that of
  // the model's vocabulary or, one after the other, the ids behind it.
  static absl::StatusOr<AddedTokens> Parse(const nlohmann::json& value, const std::string& path,
                                           const BpeModel& model, const Normalizer& normalizer);

  // Tokens that are all looked for in the text as given. InvalidArgument, named by `path`, when a
  // content is empty, longer than 1024 bytes, or there twice.
  static absl::StatusOr<AddedTokens> Create(std::vector<AddedToken> tokens,
                                            const std::string& path);

  // Finds the tokens in `text`, normalizes what is between them, and finds there the tokens that
  // are looked for in normalized text. ResourceExhausted as Regex::FindAll.
  absl::StatusOr<Pieces> Extract(std::string_view text, const Normalizer& normalizer,
                                 MatchDeadline deadline) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  absl::Status Add(const nlohmann::json& value, const std::string& path, const BpeModel& model,
                   const Normalizer& normalizer);

  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<std::string, int32_t> ids_;
  int32_t next_id_ = 0;
  TokenMatcher raw_;
  TokenMatcher normalized_;
};

}  // namespace sluice
