#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/unicode.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

// Bounds the work at one byte of a text. The longest in use are runs of some 30 spaces.
constexpr size_t kMaxContentBytes = 1024;

uint64_t EdgeKey(int32_t node, char byte) {
  return static_cast<uint64_t>(node) << 8 | static_cast<uint8_t>(byte);
}

bool IsWithinWord(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && IsWordCharacter(Utf8Before(text, begin).code_point)) return true;
  return end < text.size() && IsWordCharacter(Utf8At(text, end).code_point);
}

// The start of the whitespace before `end`, looked for down to `from`.
size_t SpaceBefore(std::string_view text, size_t from, size_t end) {
  while (end > from) {
    const Utf8Char c = Utf8Before(text, end);
    if (!IsWhitespace(c.code_point)) break;
    end -= c.bytes;
  }
  return std::max(end, from);
}

size_t SpaceAfter(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Utf8Char c = Utf8At(text, begin);
    if (!IsWhitespace(c.code_point)) break;
    begin += c.bytes;
  }
  return begin;
}

}  // namespace

bool TokenMatcher::Add(std::string_view text, int32_t index) {
  int32_t node = 0;
  for (const char byte : text) {
    const auto fresh = static_cast<int32_t>(token_of_node_.size());
    const auto [edge, inserted] = next_.try_emplace(EdgeKey(node, byte), fresh);
    node = edge->second;
    if (inserted) token_of_node_.push_back(kNoToken);
  }
  begins_[static_cast<uint8_t>(text[0])] = true;
  if (token_of_node_[node] != kNoToken) return false;
  token_of_node_[node] = index;
  return true;
}

TokenMatcher::Match TokenMatcher::LongestAt(std::string_view text, size_t at) const {
  Match longest{kNoToken, 0};
  int32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    const auto edge = next_.find(EdgeKey(node, text[i]));
    if (edge == next_.end()) break;
    node = edge->second;
    if (token_of_node_[node] != kNoToken) longest = {token_of_node_[node], i + 1 - at};
  }
  return longest;
}

void TokenMatcher::Cut(std::string_view text, const std::vector<AddedToken>& tokens, size_t offset,
                       bool at_start, std::vector<Piece>* pieces) const {
  const auto add = [&](size_t begin, size_t end, int32_t token) {
    if (begin >= end) return;
    pieces->push_back({offset + begin, offset + end, token, at_start && begin == 0});
  };
  size_t covered = 0;    // what is before is in pieces already
  size_t space_end = 0;  // of the whitespace that was scanned last
  for (size_t at = 0; at < text.size();) {
    const Match match =
        begins_[static_cast<uint8_t>(text[at])] ? LongestAt(text, at) : Match{kNoToken, 0};
    if (match.index == kNoToken) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens[match.index];
    size_t begin = at;
    size_t end = at + match.bytes;
    at = end;
    if (token.single_word && IsWithinWord(text, begin, end)) continue;
    if (token.lstrip) begin = std::max(covered, SpaceBefore(text, std::min(covered, begin), begin));
    if (token.rstrip) {
      // Inside of whitespace that was scanned before, its end is known.
      if (end >= space_end) space_end = SpaceAfter(text, end);
      end = space_end;
    }
    add(covered, begin, kNoToken);
    add(begin, end, token.id);
    // Goes back when the token lies within whitespace that the last one took: Hugging Face then
    // gives the rest of it again.
    covered = end;
  }
  add(covered, text.size(), kNoToken);
}

absl::StatusOr<AddedTokens> AddedTokens::Parse(const nlohmann::json& value, const std::string& path,
                                               const BpeModel& model,
                                               const Normalizer& normalizer) {
  AddedTokens added;
  added.next_id_ = static_cast<int32_t>(model.vocab().size());
  if (value.is_null()) return added;
  if (!value.is_array()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " must be an array"));
  }
  for (size_t i = 0; i < value.size(); ++i) {
    SLUICE_RETURN_IF_ERROR(added.Add(value[i], absl::StrCat(path, "[", i, "]"), model, normalizer));
  }
  return added;
}

absl::StatusOr<AddedTokens> AddedTokens::Create(std::vector<AddedToken> tokens,
                                                const std::string& path) {
  AddedTokens added;
  added.tokens_ = std::move(tokens);
  for (size_t i = 0; i < added.tokens_.size(); ++i) {
    const AddedToken& token = added.tokens_[i];
    const size_t bytes = token.content.size();
    if (bytes == 0 || bytes > kMaxContentBytes) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": the token of id ", token.id, " has ",
                                                     bytes, " bytes; it must have 1 to ",
                                                     kMaxContentBytes));
    }
    if (!added.raw_.Add(token.content, static_cast<int32_t>(i))) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": the token ", Quoted(token.content), " is there twice"));
    }
  }
  return added;
}

absl::Status AddedTokens::Add(const nlohmann::json& value, const std::string& path,
                              const BpeModel& model, const Normalizer& normalizer) {
  JsonReader reader(value, path);
  AddedToken token{};
  token.content = reader.String("content", "");
  token.single_word = reader.Bool("single_word", false);
  token.lstrip = reader.Bool("lstrip", false);
  token.rstrip = reader.Bool("rstrip", false);
  token.special = reader.Bool("special", false);
  token.is_normalized = reader.Bool("normalized", !token.special);
  token.id = static_cast<int32_t>(reader.Int("id", -1, 0, BpeModel::kMaxId));
  if (token.content.empty() || token.content.size() > kMaxContentBytes) {
    reader.Refuse("content", absl::StrCat("it must have 1 to ", kMaxContentBytes, " bytes"));
  }
  const auto known = model.vocab().find(token.content);
  const int32_t wanted = known != model.vocab().end() ? known->second : next_id_++;
  if (token.id != wanted) {
    reader.Refuse("id", absl::StrCat("Hugging Face gives this token the id ", wanted));
  }
  if (!ids_.emplace(token.content, token.id).second) {
    reader.Refuse("content", "another added token has the same");
  }
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  token.normalized = token.content;
  if (token.is_normalized) {
    const MatchDeadline deadline = std::chrono::steady_clock::now() + std::chrono::seconds(1);
    SLUICE_ASSIGN_OR_RETURN(token.normalized, normalizer.Apply(token.content, deadline));
  }
  TokenMatcher& matcher = token.is_normalized ? normalized_ : raw_;
  if (token.normalized.empty() ||
      !matcher.Add(token.normalized, static_cast<int32_t>(tokens_.size()))) {
    reader.Refuse("content", "the normalizer makes it empty, or the same as another one");
  }
  tokens_.push_back(std::move(token));
  return reader.status();
}

absl::StatusOr<Pieces> AddedTokens::Extract(std::string_view text, const Normalizer& normalizer,
                                            MatchDeadline deadline) const {
  Pieces raw;
  raw.text = std::string(text);
  raw_.Cut(text, tokens_, 0, /*at_start=*/true, &raw.pieces);
  if (normalizer.empty() && normalized_.empty()) return raw;
  Pieces result;
  result.text.reserve(text.size());
  for (const Piece& piece : raw.pieces) {
    const std::string_view old = text.substr(piece.begin, piece.end - piece.begin);
    const size_t begin = result.text.size();
    if (piece.token != kNoToken) {
      result.text.append(old);
      result.pieces.push_back({begin, result.text.size(), piece.token, piece.at_start});
      continue;
    }
    SLUICE_ASSIGN_OR_RETURN(const std::string normalized, normalizer.Apply(old, deadline));
    normalized_.Cut(normalized, tokens_, begin, piece.at_start, &result.pieces);
    result.text.append(normalized);
  }
  return result;
}

}  // namespace sluice
