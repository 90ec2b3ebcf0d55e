#include "engine/tokenizer/sentencepiece_file.h"

#include <bitset>
#include <cmath>
#include <cstring>
#include <functional>
#include <optional>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

// Protocol buffers' wire types.
enum class Wire { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct Field {
  uint64_t number;
  Wire wire;
  uint64_t varint;         // kVarint
  std::string_view bytes;  // of the others
};

// Reads one message field by field.
class WireReader {
 public:
  explicit WireReader(std::string_view bytes) : bytes_(bytes) {}

  bool done() const { return at_ == bytes_.size(); }

  // None when the bytes are no field.
  std::optional<Field> Next() {
    Field field{};
    const std::optional<uint64_t> tag = Varint();
    if (!tag.has_value() || *tag >> 3 == 0) return std::nullopt;
    field.number = *tag >> 3;
    field.wire = static_cast<Wire>(*tag & 7);
    std::optional<uint64_t> size;
    switch (field.wire) {
      case Wire::kVarint: {
        const std::optional<uint64_t> value = Varint();
        if (!value.has_value()) return std::nullopt;
        field.varint = *value;
        return field;
      }
      case Wire::kFixed64:
        size = 8;
        break;
      case Wire::kFixed32:
        size = 4;
        break;
      case Wire::kBytes:
        size = Varint();
        break;
      default:
        return std::nullopt;
    }
    if (!size.has_value() || *size > bytes_.size() - at_) return std::nullopt;
    field.bytes = bytes_.substr(at_, *size);
    at_ += *size;
    return field;
  }

 private:
  std::optional<uint64_t> Varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64 && at_ < bytes_.size(); shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes_[at_++]);
      value |= static_cast<uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    return std::nullopt;
  }

  std::string_view bytes_;
  size_t at_ = 0;
};

// Calls `read` with every field of a message. A field that `read` knows has the wire type it says.
absl::Status ReadMessage(std::string_view bytes, const std::string& path,
                         const std::function<absl::Status(const Field&)>& read) {
  WireReader reader(bytes);
  while (!reader.done()) {
    const std::optional<Field> field = reader.Next();
    if (!field.has_value()) {
      return absl::InvalidArgumentError(absl::StrCat(path, " is no protocol buffer, or cut off"));
    }
    SLUICE_RETURN_IF_ERROR(read(*field));
  }
  return absl::OkStatus();
}

absl::Status Expect(const Field& field, Wire wire, const std::string& path) {
  if (field.wire == wire) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": the field ", field.number,
                                                 " has the type ", static_cast<int>(field.wire),
                                                 ", not ", static_cast<int>(wire)));
}

absl::Status ReadBool(const Field& field, const std::string& path, bool* value) {
  SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kVarint, path));
  *value = field.varint != 0;
  return absl::OkStatus();
}

absl::Status ReadType(const Field& field, const std::string& path, SentencePieceFile::Type* type) {
  SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kVarint, path));
  if (field.varint < 1 || field.varint == 5 || field.varint > 6) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": type is ", field.varint,
        "; supported are 1 (normal), 2 (unknown), 3 (control), 4 (user-defined) and 6 (byte)"));
  }
  *type = static_cast<SentencePieceFile::Type>(field.varint);
  return absl::OkStatus();
}

absl::Status ReadPiece(std::string_view bytes, const std::string& path,
                       SentencePieceFile::Piece* piece) {
  absl::Status status = ReadMessage(bytes, path, [&](const Field& field) -> absl::Status {
    switch (field.number) {
      case 1:
        SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kBytes, path));
        piece->text = std::string(field.bytes);
        return absl::OkStatus();
      case 2:
        SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kFixed32, path));
        std::memcpy(&piece->score, field.bytes.data(), sizeof(float));
        return absl::OkStatus();
      case 3:
        return ReadType(field, path, &piece->type);
      default:
        return absl::OkStatus();
    }
  });
  if (!status.ok()) return status;
  const auto refuse = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what));
  };
  if (piece->text.empty() || piece->text.size() > SentencePieceFile::kMaxPieceBytes) {
    return refuse(absl::StrCat("piece has ", piece->text.size(), " bytes; it must have 1 to ",
                               SentencePieceFile::kMaxPieceBytes));
  }
  if (FirstInvalidUtf8(piece->text).has_value()) return refuse("piece is not valid UTF-8");
  if (!std::isfinite(piece->score)) return refuse("score is not finite");
  return absl::OkStatus();
}

absl::Status ReadTrainerSpec(std::string_view bytes, const std::string& path,
                             SentencePieceFile* file) {
  return ReadMessage(bytes, path, [&](const Field& field) -> absl::Status {
    switch (field.number) {
      case 3:
        SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kVarint, path));
        if (field.varint != 1 && field.varint != 2) {
          return absl::InvalidArgumentError(absl::StrCat(
              path, ": model_type is ", field.varint, "; supported are 1 (unigram) and 2 (BPE)"));
        }
        file->algorithm = static_cast<SentencePieceFile::Algorithm>(field.varint);
        return absl::OkStatus();
      case 24:
        return ReadBool(field, path, &file->whitespace_as_suffix);
      case 35:
        return ReadBool(field, path, &file->byte_fallback);
      default:
        return absl::OkStatus();  // what is about training alone
    }
  });
}

absl::Status ReadNormalizerSpec(std::string_view bytes, const std::string& path,
                                SentencePieceFile* file) {
  return ReadMessage(bytes, path, [&](const Field& field) -> absl::Status {
    switch (field.number) {
      case 2:
        SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kBytes, path));
        file->charsmap = std::string(field.bytes);
        return absl::OkStatus();
      case 3:
        return ReadBool(field, path, &file->add_dummy_prefix);
      case 4:
        return ReadBool(field, path, &file->remove_extra_whitespaces);
      case 5:
        return ReadBool(field, path, &file->escape_whitespaces);
      default:
        return absl::OkStatus();
    }
  });
}

absl::Status ReadDenormalizerSpec(std::string_view bytes, const std::string& path) {
  SentencePieceFile denormalizer;
  SLUICE_RETURN_IF_ERROR(ReadNormalizerSpec(bytes, path, &denormalizer));
  if (denormalizer.charsmap.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(path, ": precompiled_charsmap is not supported"));
}

absl::Status ReadModel(std::string_view bytes, const std::string& source, SentencePieceFile* file) {
  return ReadMessage(bytes, source, [&](const Field& field) -> absl::Status {
    if (field.number < 1 || field.number > 5) return absl::OkStatus();  // extensions
    SLUICE_RETURN_IF_ERROR(Expect(field, Wire::kBytes, source));
    switch (field.number) {
      case 1:
        if (file->pieces.size() == SentencePieceFile::kMaxPieces) {
          return absl::InvalidArgumentError(
              absl::StrCat(source, " has more than ", SentencePieceFile::kMaxPieces, " pieces"));
        }
        file->pieces.emplace_back();
        return ReadPiece(field.bytes,
                         absl::StrCat(source, ": pieces[", file->pieces.size() - 1, "]"),
                         &file->pieces.back());
      case 2:
        return ReadTrainerSpec(field.bytes, source + ": trainer_spec", file);
      case 3:
        return ReadNormalizerSpec(field.bytes, source + ": normalizer_spec", file);
      case 5:
        return ReadDenormalizerSpec(field.bytes, source + ": denormalizer_spec");
      default:
        return absl::OkStatus();  // self_test_data
    }
  });
}

absl::Status CheckPieces(const SentencePieceFile& file, const std::string& source) {
  using Type = SentencePieceFile::Type;
  absl::flat_hash_set<absl::string_view> texts;
  std::bitset<256> bytes;
  size_t unknowns = 0;
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const SentencePieceFile::Piece& piece = file.pieces[i];
    const auto refuse = [&](absl::string_view what) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": pieces[", i, "]: ", Quoted(piece.text), " ", what));
    };
    if (!texts.insert(piece.text).second) return refuse("is there twice");
    if (piece.type == Type::kUnknown) ++unknowns;
    if (piece.type != Type::kByte) continue;
    const int32_t byte = ByteOfPiece(piece.text);
    if (byte < 0) return refuse("is no byte; those are \"<0x00>\" to \"<0xFF>\"");
    if (!file.byte_fallback) return refuse("is a byte, though byte_fallback is false");
    bytes.set(byte);
  }
  if (unknowns != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " has ", unknowns, " pieces of the type 2 (unknown); it must have 1"));
  }
  if (file.byte_fallback && !bytes.all()) {
    return absl::InvalidArgumentError(absl::StrCat(source, ": byte_fallback is true with ",
                                                   bytes.count(), " of the 256 bytes as pieces"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<SentencePieceFile> SentencePieceFile::Parse(std::string_view bytes,
                                                           const std::string& source) {
  SentencePieceFile file;
  SLUICE_RETURN_IF_ERROR(ReadModel(bytes, source, &file));
  SLUICE_RETURN_IF_ERROR(CheckPieces(file, source));
  return file;
}

int32_t ByteOfPiece(std::string_view piece) {
  if (piece.size() != 6) return -1;
  const auto digit = [&](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = digit(piece[3]);
  const int low = digit(piece[4]);
  if (piece.substr(0, 3) != "<0x" || piece[5] != '>' || high < 0 || low < 0) return -1;
  return high << 4 | low;
}

}  // namespace sluice
