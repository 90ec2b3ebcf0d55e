// How SentencePiece cuts a normalized text into pieces of its vocabulary.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/sentencepiece_file.h"

namespace sluice {

// Immutable.
class SentencePieceSegmenter {
 public:
  struct Segment {
    std::string_view text;
    int32_t id;  // kUnknown for characters without a piece
  };

  static constexpr int32_t kUnknown = -1;

  virtual ~SentencePieceSegmenter() = default;

  // Appends the segments of `text`, valid UTF-8 of less than 2^31 bytes, in order; together they
  // are the text.
  virtual void Cut(std::string_view text, std::vector<Segment>* segments) const = 0;
};

// Merges neighbours, the pair whose piece has the highest score first and of those the leftmost.
// `user_defined` pieces are taken whole and never merged. O(n log n).
std::unique_ptr<const SentencePieceSegmenter> MakeBpeSegmenter(const SentencePieceFile& file,
                                                               const ByteTrie& user_defined);

// Takes the pieces whose scores have the highest sum. Scores are added up in single precision from
// the start of the text, so that of equal cuts the one of SentencePiece 0.2.3 is taken. (Earlier
// releases add in double precision, and decide some ties in other ways.) O(n) times the length of
// the longest piece.
std::unique_ptr<const SentencePieceSegmenter> MakeUnigramSegmenter(const SentencePieceFile& file);

}  // namespace sluice
