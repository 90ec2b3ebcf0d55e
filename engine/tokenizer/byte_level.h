// GPT-2's bytes as characters: each of the 256 bytes stands for a printable character, so that a
// vocabulary of strings can hold any bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// Appends the character of each byte, as UTF-8.
void AppendByteLevel(std::string_view bytes, std::string* out);

// The byte that a character stands for, if it stands for one.
std::optional<uint8_t> ByteOfCharacter(char32_t code_point);

}  // namespace sluice
