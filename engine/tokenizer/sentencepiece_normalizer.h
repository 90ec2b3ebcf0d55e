// What SentencePiece does to a text before it is cut: characters are replaced by the rules of the
// file, spaces become U+2581, and one may be put in front.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/sentencepiece_file.h"

namespace sluice {

// U+2581, which stands for a space.
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

// Immutable.
class SentencePieceNormalizer {
 public:
  // InvalidArgument when the rules of the file, `precompiled_charsmap`, are broken: they are the
  // size of a double array (u32), that array as darts-clone writes it, whose values are offsets
  // into what is behind it: texts with a zero byte behind each. All little-endian.
  static absl::StatusOr<SentencePieceNormalizer> Create(const SentencePieceFile& file,
                                                        const std::string& source);

  // `text` is valid UTF-8, and so is the result. `add_prefix` is about the space in front (behind,
  // with whitespace_as_suffix). ResourceExhausted when the rules make 2^31 bytes or more of it.
  absl::StatusOr<std::string> Apply(std::string_view text, bool add_prefix) const;

  // The user-defined pieces, which are left as they are.
  const ByteTrie& user_defined() const { return user_defined_; }

 private:
  // What the first characters of a text become.
  struct Replaced {
    std::string_view text;
    size_t bytes;  // of the text that it takes the place of
  };

  absl::Status ReadCharsmap(std::string_view charsmap, const std::string& source);
  Replaced ReplaceFirst(std::string_view text) const;
  void Append(std::string_view text, std::string* out) const;

  bool remove_extra_whitespaces_ = false;
  bool escape_whitespaces_ = true;
  bool whitespace_as_suffix_ = false;
  std::vector<uint32_t> units_;  // of the double array; empty for no rules
  std::string replacements_;
  ByteTrie user_defined_;
};

}  // namespace sluice
