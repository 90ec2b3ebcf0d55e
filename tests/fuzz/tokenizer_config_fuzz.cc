// tokenizer_config.json of any bytes, beside SentencePiece's model and beside RWKV's vocabulary:
// refused, or then both take a text apart. What is behind a zero byte is the text.
#include "engine/tokenizer/tokenizer_config.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/tokenizer/rwkv.h"
#include "engine/tokenizer/sentencepiece.h"
#include "engine/utf8.h"
#include "kernels/check.h"
#include "tests/engine/sentencepiece_writer.h"

namespace sluice {
namespace {

std::string RwkvFile() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    absl::StrAppend(&lines, byte + 1, absl::StrFormat(" b'\\x%02x' 1\n", byte));
  }
  return lines + "257 'ab' 2\n";
}

std::string SentencePieceFile() {
  WrittenSentencePiece model = WithBytes({"a", "b", "ab", "\u2581", "\u2581a"});
  model.remove_extra_whitespaces = true;
  return SentencePieceBytes(model);
}

void CheckConfig(const TokenizerConfig& config) {
  for (size_t i = 0; i < config.added_tokens.size(); ++i) {
    const int32_t id = config.added_tokens[i].id;
    SLUICE_CHECK(id >= 0 && id < TokenizerConfig::kMaxTokens);
    SLUICE_CHECK(i == 0 || id >= config.added_tokens[i - 1].id);
  }
}

void CheckText(const TokenizerParts& parts, std::string_view text) {
  std::vector<int32_t> tokens;
  SLUICE_CHECK(parts.model->Encode(text, &tokens).ok());
  tokens = parts.post_processor.Apply(std::move(tokens), /*add_special_tokens=*/true);
  DecodeRun run(&parts.decoder);
  std::string decoded;
  for (const int32_t id : tokens) {
    const TokenizerParts::Entry* entry = parts.Find(id);
    SLUICE_CHECK(entry != nullptr);
    run.Push(entry->decoded, &decoded);
  }
  run.Flush(&decoded);
  SLUICE_CHECK(!FirstInvalidUtf8(decoded).has_value());
}

void Check(const absl::StatusOr<std::unique_ptr<const TokenizerParts>>& parts,
           std::string_view text) {
  if (!parts.ok()) {
    SLUICE_CHECK(parts.status().code() == absl::StatusCode::kInvalidArgument);
    return;
  }
  CheckText(**parts, "a ab<s>  b</s>");
  if (!FirstInvalidUtf8(text).has_value()) CheckText(**parts, text);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string rwkv = sluice::RwkvFile();
  static const std::string sentencepiece = sluice::SentencePieceFile();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view text =
      zero == std::string_view::npos ? std::string_view() : input.substr(zero + 1);
  auto config = sluice::TokenizerConfig::Parse(input.substr(0, zero), "tokenizer_config.json");
  if (!config.ok()) {
    SLUICE_CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  sluice::CheckConfig(*config);
  // A file names one class of tokenizers; the other is tried as if it had been named.
  for (const std::string& name : {config->tokenizer_class, std::string()}) {
    config->tokenizer_class = name;
    sluice::Check(sluice::ParseSentencePiece(sentencepiece, "tokenizer.model", *config), text);
    sluice::Check(sluice::ParseRwkv(rwkv, "vocab.txt", *config), text);
  }
  return 0;
}
