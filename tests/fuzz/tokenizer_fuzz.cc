// tokenizer.json of any bytes: refused, or then encodes and decodes any text. What is behind a zero
// byte is the text; with nothing before the zero byte, tokenizers that are known to be read take
// it.
#include "engine/tokenizer.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "tests/fuzz/tokenizer_checks.h"

namespace sluice {
namespace {

constexpr const char* kByteLevel = R"({"added_tokens": [
    {"id": 3, "content": "<left>", "single_word": false, "lstrip": true, "rstrip": true,
     "normalized": false, "special": true},
    {"id": 4, "content": "  ", "single_word": true, "lstrip": false, "rstrip": true,
     "normalized": true, "special": false}],
  "normalizer": {"type": "NFC"},
  "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}|\\s+$"}, "behavior": "Isolated",
     "invert": false},
    {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true}]},
  "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
    "use_regex": true},
  "model": {"type": "BPE", "vocab": {"a": 0, "\u0120": 1, "\u0120a": 2}, "merges": ["\u0120 a"]}})";

constexpr const char* kByteFallback = R"({"normalizer": {"type": "Sequence", "normalizers": [
    {"type": "Prepend", "prepend": "_"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "_"}]},
  "decoder": {"type": "Sequence", "decoders": [
    {"type": "Replace", "pattern": {"String": "_"}, "content": " "}, {"type": "ByteFallback"},
    {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
  "model": {"type": "BPE", "byte_fallback": true, "fuse_unk": true, "unk_token": "?",
    "vocab": {"?": 0, "_": 1, "a": 2, "_a": 3, "aa": 4, "<0xC3>": 5, "<0xA9>": 6, "<0xF0>": 7},
    "merges": [["_", "a"], ["a", "a"]]}})";

std::unique_ptr<const Tokenizer> Known(const char* json) {
  auto tokenizer = Tokenizer::Parse(json);
  SLUICE_CHECK(tokenizer.ok());
  return std::move(*tokenizer);
}

void CheckText(const Tokenizer& tokenizer, std::string_view text) {
  CheckEncoding(tokenizer, text);
  std::vector<int32_t> known;
  for (const char c : text) {
    const int32_t id = static_cast<uint8_t>(c) % 16;
    if (!tokenizer.IdToToken(id).empty()) known.push_back(id);
  }
  CheckDecoding(tokenizer, known);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::array<std::unique_ptr<const sluice::Tokenizer>, 2> known = {
      sluice::Known(sluice::kByteLevel), sluice::Known(sluice::kByteFallback)};
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view text =
      zero == std::string_view::npos ? std::string_view() : input.substr(zero + 1);
  for (const auto& tokenizer : known) sluice::CheckText(*tokenizer, text);
  if (zero == 0) return 0;
  const auto tokenizer = sluice::Tokenizer::Parse(input.substr(0, zero));
  if (tokenizer.ok()) {
    sluice::CheckText(**tokenizer, text);
  } else {
    SLUICE_CHECK(tokenizer.status().code() == absl::StatusCode::kInvalidArgument);
  }
  return 0;
}
