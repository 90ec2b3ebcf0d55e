// Classes of characters as the `tokenizers` package sees them.
#pragma once

namespace sluice {

// The White_Space property.
bool IsWhitespace(char32_t code_point);

// A character of a word, as added tokens with `single_word` look at their neighbours.
bool IsWordCharacter(char32_t code_point);

// General category N.
bool IsNumeric(char32_t code_point);

}  // namespace sluice
