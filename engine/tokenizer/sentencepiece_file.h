// SentencePiece's `tokenizer.model`: a protocol buffer, `sentencepiece.ModelProto`.
//
// It is read here and not by libsentencepiece: Debian 12's library (0.1.97) brings along protobuf
// 3.14 under the names of the one that gRPC needs, so that a process with both of them ends at
// once, and it trusts offsets that the file gives.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

struct SentencePieceFile {
  enum class Algorithm { kUnigram = 1, kBpe = 2 };
  enum class Type { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6 };

  struct Piece {
    std::string text;  // valid UTF-8, 1 to kMaxPieceBytes bytes
    float score = 0;   // finite
    Type type = Type::kNormal;
  };

  // Bounds the work at one byte of a text. Training makes pieces of 16 characters unless told
  // otherwise.
  static constexpr size_t kMaxPieceBytes = 1024;
  static constexpr size_t kMaxPieces = 1'000'000;

  // `source` names the file in messages. InvalidArgument when it is broken, or asks for what is not
  // supported. Afterwards pieces are different, one is kUnknown, and with byte_fallback each of the
  // 256 bytes has its piece "<0x00>" to "<0xFF>".
  static absl::StatusOr<SentencePieceFile> Parse(std::string_view bytes, const std::string& source);

  std::vector<Piece> pieces;  // by id
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
  std::string charsmap;  // precompiled_charsmap: see SentencePieceNormalizer
};

// The byte that "<0x41>" stands for; -1 for any other text.
int32_t ByteOfPiece(std::string_view piece);

}  // namespace sluice
