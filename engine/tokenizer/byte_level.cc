#include "engine/tokenizer/byte_level.h"

#include <array>

#include "engine/utf8.h"

namespace sluice {
namespace {

constexpr char32_t kFirstStandIn = 0x100;

constexpr bool IsPrintable(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<uint8_t, 256> unprintable{};  // the bytes that stand-ins stand for, in order
  uint32_t stand_ins = 0;
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    if (IsPrintable(byte)) {
      alphabet.character[byte] = byte;
      continue;
    }
    alphabet.character[byte] = kFirstStandIn + alphabet.stand_ins;
    alphabet.unprintable[alphabet.stand_ins++] = static_cast<uint8_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

void AppendByteLevel(std::string_view bytes, std::string* out) {
  for (const char c : bytes) {
    AppendUtf8(kAlphabet.character[static_cast<uint8_t>(c)], out);
  }
}

std::optional<uint8_t> ByteOfCharacter(char32_t code_point) {
  if (code_point < kFirstStandIn) {
    if (!IsPrintable(code_point)) return std::nullopt;
    return static_cast<uint8_t>(code_point);
  }
  if (code_point - kFirstStandIn >= kAlphabet.stand_ins) return std::nullopt;
  return kAlphabet.unprintable[code_point - kFirstStandIn];
}

}  // namespace sluice
