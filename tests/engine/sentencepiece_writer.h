// Writes SentencePiece's tokenizer.model, whole or broken on purpose, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"

namespace sluice {

struct WrittenPiece {
  std::string text;
  float score = 0;
  int32_t type = 1;  // 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte
};

struct WrittenSentencePiece {
  std::vector<WrittenPiece> pieces = {{"<unk>", 0, 2}, {"<s>", 0, 3}, {"</s>", 0, 3}};
  int32_t model_type = 2;  // 1 unigram, 2 BPE
  bool byte_fallback = false;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = false;
  std::string charsmap;
  std::string more;  // further fields, as bytes
};

inline std::string WireVarint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}

inline std::string WireNumber(uint64_t field, uint64_t value) {
  return WireVarint(field << 3) + WireVarint(value);
}

inline std::string WireBytes(uint64_t field, const std::string& bytes) {
  return WireVarint(field << 3 | 2) + WireVarint(bytes.size()) + bytes;
}

inline std::string WireFloat(uint64_t field, float value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return WireVarint(field << 3 | 5) + bytes;
}

inline std::string PieceBytes(const WrittenPiece& piece) {
  return WireBytes(1, piece.text) + WireFloat(2, piece.score) +
         WireNumber(3, static_cast<uint64_t>(piece.type));
}

inline std::string SentencePieceBytes(const WrittenSentencePiece& model) {
  std::string bytes;
  for (const WrittenPiece& piece : model.pieces) bytes += WireBytes(1, PieceBytes(piece));
  bytes += WireBytes(2, WireNumber(3, static_cast<uint64_t>(model.model_type)) +
                            WireNumber(35, model.byte_fallback ? 1 : 0));
  bytes +=
      WireBytes(3, WireBytes(2, model.charsmap) + WireNumber(3, model.add_dummy_prefix ? 1 : 0) +
                       WireNumber(4, model.remove_extra_whitespaces ? 1 : 0));
  return bytes + model.more;
}

// Unknown, bos and eos, then 256 bytes, then the pieces, the first with the highest score.
inline WrittenSentencePiece WithBytes(const std::vector<std::string>& pieces) {
  WrittenSentencePiece model;
  model.byte_fallback = true;
  for (int byte = 0; byte < 256; ++byte) {
    model.pieces.push_back({absl::StrFormat("<0x%02X>", byte), 0, 6});
  }
  float score = 0;
  for (const std::string& piece : pieces) model.pieces.push_back({piece, score -= 1, 1});
  return model;
}

}  // namespace sluice
