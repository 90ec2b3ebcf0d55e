// UTF-8 as the Unicode standard defines it (section 3.9, table 3-7): no overlong forms, no
// surrogates, nothing above U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// The offset of the first byte that is not part of a well-formed character; none when all are.
std::optional<size_t> FirstInvalidUtf8(std::string_view text);

struct Utf8Char {
  char32_t code_point;
  size_t bytes;  // 1 to 4
};

// The character that begins at byte `at`. `text` is valid UTF-8 and `at` a character's first byte.
Utf8Char Utf8At(std::string_view text, size_t at);

// The character that ends before byte `end`, which is greater than 0. `text` is valid UTF-8.
Utf8Char Utf8Before(std::string_view text, size_t end);

// `code_point` is a Unicode scalar value.
void AppendUtf8(char32_t code_point, std::string* out);

// Makes valid UTF-8 of a stream of bytes. Bytes of a character that is not complete yet, three at
// most, are held back. Not thread-safe.
class LossyUtf8 {
 public:
  // What becomes one U+FFFD: each maximal part of a broken character, as in the Unicode standard's
  // recommended practice, or each byte of it.
  enum class Replaces { kMaximalPart, kEachByte };

  explicit LossyUtf8(Replaces replaces = Replaces::kMaximalPart) : replaces_(replaces) {}

  // Appends what `bytes` completes.
  void Push(std::string_view bytes, std::string* out);

  // Replaces an incomplete character that is held, and starts afresh.
  void Flush(std::string* out);

 private:
  void PushLead(uint8_t byte, std::string* out);

  Replaces replaces_;
  std::string held_;
};

}  // namespace sluice
