#include "engine/tokenizer/sentencepiece_normalizer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

// Bounds what one character can become, and the work at one byte of a text. NFKC makes 33 bytes of
// one character, and takes no more than some 20 bytes at once.
constexpr size_t kMaxReplacementBytes = 256;
constexpr size_t kMaxRuleBytes = 256;

// Offsets in a normalized text are 32 bits; some room is left for its last characters.
constexpr size_t kMaxResultBytes = std::numeric_limits<int32_t>::max() - 4096;

// A unit of the double array of darts-clone.
constexpr uint32_t kLeaf = uint32_t{1} << 31;

uint32_t OffsetOf(uint32_t unit) { return (unit >> 10) << ((unit & (1U << 9)) >> 6); }
uint32_t LabelOf(uint32_t unit) { return unit & (kLeaf | 0xFF); }
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }

bool BeginsCharacter(char c) { return (static_cast<uint8_t>(c) & 0xC0) != 0x80; }

std::string_view UntilZero(std::string_view text) { return text.substr(0, text.find('\0')); }

}  // namespace

absl::StatusOr<SentencePieceNormalizer> SentencePieceNormalizer::Create(
    const SentencePieceFile& file, const std::string& source) {
  SentencePieceNormalizer normalizer;
  normalizer.remove_extra_whitespaces_ = file.remove_extra_whitespaces;
  normalizer.escape_whitespaces_ = file.escape_whitespaces;
  normalizer.whitespace_as_suffix_ = file.whitespace_as_suffix;
  std::vector<std::pair<std::string_view, int32_t>> user_defined;
  for (const SentencePieceFile::Piece& piece : file.pieces) {
    if (piece.type == SentencePieceFile::Type::kUserDefined)
      user_defined.emplace_back(piece.text, 0);
  }
  normalizer.user_defined_ = ByteTrie(std::move(user_defined));
  if (!file.charsmap.empty()) {
    const absl::Status status = normalizer.ReadCharsmap(file.charsmap, source);
    if (!status.ok()) return status;
  }
  return normalizer;
}

absl::Status SentencePieceNormalizer::ReadCharsmap(std::string_view charsmap,
                                                   const std::string& source) {
  const auto refuse = [&](absl::string_view what) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": normalizer_spec: precompiled_charsmap ", what));
  };
  uint32_t bytes = 0;
  if (charsmap.size() < sizeof(bytes)) return refuse("is shorter than its size field");
  std::memcpy(&bytes, charsmap.data(), sizeof(bytes));
  charsmap.remove_prefix(sizeof(bytes));
  if (bytes == 0 || bytes % sizeof(uint32_t) != 0 || bytes >= charsmap.size()) {
    return refuse(absl::StrCat("has an array of ", bytes,
                               " bytes; it must be a multiple of 4 below ", charsmap.size()));
  }
  units_.resize(bytes / sizeof(uint32_t));
  std::memcpy(units_.data(), charsmap.data(), bytes);
  replacements_ = std::string(charsmap.substr(bytes));
  if (replacements_.back() != '\0') return refuse("has no zero byte at its end");
  if (FirstInvalidUtf8(replacements_).has_value())
    return refuse("has text that is not valid UTF-8");
  size_t longest = 0;
  for (size_t at = 0; at < replacements_.size();) {
    const size_t length = UntilZero(std::string_view(replacements_).substr(at)).size();
    longest = std::max(longest, length);
    at += length + 1;
  }
  if (longest > kMaxReplacementBytes) {
    return refuse(
        absl::StrCat("makes a text of ", longest, " bytes; the limit is ", kMaxReplacementBytes));
  }
  for (const uint32_t unit : units_) {
    if ((unit & kLeaf) == 0) continue;
    const uint32_t offset = unit & ~kLeaf;
    if (offset < replacements_.size() && BeginsCharacter(replacements_[offset])) continue;
    return refuse(absl::StrCat("has the offset ", offset, ", which is not that of a character in ",
                               replacements_.size(), " bytes of text"));
  }
  return absl::OkStatus();
}

SentencePieceNormalizer::Replaced SentencePieceNormalizer::ReplaceFirst(
    std::string_view text) const {
  const ByteTrie::Match as_is = user_defined_.Longest(text);
  if (as_is.bytes > 0) return {text.substr(0, as_is.bytes), as_is.bytes};
  size_t bytes = 0;
  uint32_t offset = 0;
  // A walk that leaves the array, which no array that was built does, ends without a match.
  uint64_t node = units_.empty() ? 0 : OffsetOf(units_[0]);
  for (size_t i = 0; i < std::min(text.size(), kMaxRuleBytes) && !units_.empty(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || LabelOf(units_[node]) != byte) break;
    const bool has_leaf = HasLeaf(units_[node]);
    node ^= OffsetOf(units_[node]);
    const bool is_value = has_leaf && node < units_.size() && (units_[node] & kLeaf) != 0;
    // A rule never ends within a character, or what is behind it would be broken.
    if (is_value && (i + 1 == text.size() || BeginsCharacter(text[i + 1]))) {
      bytes = i + 1;
      offset = units_[node] & ~kLeaf;
    }
  }
  if (bytes > 0) return {UntilZero(std::string_view(replacements_).substr(offset)), bytes};
  bytes = Utf8At(text, 0).bytes;
  return {text.substr(0, bytes), bytes};
}

void SentencePieceNormalizer::Append(std::string_view text, std::string* out) const {
  for (const char c : text) {
    if (c == ' ' && escape_whitespaces_) {
      out->append(kSpaceSymbol);
    } else {
      out->push_back(c);
    }
  }
}

absl::StatusOr<std::string> SentencePieceNormalizer::Apply(std::string_view text,
                                                           bool add_prefix) const {
  std::string result;
  if (remove_extra_whitespaces_) {
    while (!text.empty()) {
      const Replaced first = ReplaceFirst(text);
      if (first.text != " ") break;
      text.remove_prefix(first.bytes);
    }
  }
  if (text.empty()) return result;
  result.reserve(text.size() + text.size() / 2 + kSpaceSymbol.size());
  if (add_prefix && !whitespace_as_suffix_) Append(" ", &result);
  bool behind_space = remove_extra_whitespaces_;
  while (!text.empty()) {
    const Replaced first = ReplaceFirst(text);
    text.remove_prefix(first.bytes);
    std::string_view added = first.text;
    while (behind_space && !added.empty() && added.front() == ' ') added.remove_prefix(1);
    if (added.empty()) continue;
    Append(added, &result);
    if (result.size() > kMaxResultBytes) {
      return absl::ResourceExhaustedError(absl::StrCat(
          "the text has more than ", kMaxResultBytes, " bytes once the model's rules are applied"));
    }
    behind_space = remove_extra_whitespaces_ && added.back() == ' ';
  }
  const std::string_view space = escape_whitespaces_ ? kSpaceSymbol : std::string_view(" ");
  const auto ends_with_space = [&] {
    return result.size() >= space.size() &&
           result.compare(result.size() - space.size(), space.size(), space) == 0;
  };
  while (remove_extra_whitespaces_ && ends_with_space())
    result.resize(result.size() - space.size());
  if (add_prefix && whitespace_as_suffix_) Append(" ", &result);
  return result;
}

}  // namespace sluice
