// A text on its way to tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice {

constexpr int32_t kNoToken = -1;

// Bytes [begin, end) of Pieces::text, not empty.
struct Piece {
  size_t begin;
  size_t end;
  int32_t token;  // of the added token that the bytes are; kNoToken for text
  bool at_start;  // whether the piece begins where the whole text begins
};

// Normalizer and pre-tokenizer rewrite the text of the pieces and cut them further. Added tokens
// are left as they are.
struct Pieces {
  std::string text;
  std::vector<Piece> pieces;
};

}  // namespace sluice
