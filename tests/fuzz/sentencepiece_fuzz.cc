// SentencePiece's tokenizer.model of any bytes: refused, or then encodes and decodes any text, here
// some that tokenizers find hard, and the file's own pieces.
#include "engine/tokenizer/sentencepiece.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/utf8.h"
#include "kernels/check.h"

namespace sluice {
namespace {

void CheckText(const TokenizerParts& parts, std::string_view text) {
  std::vector<int32_t> tokens;
  SLUICE_CHECK(!FirstInvalidUtf8(text).has_value());
  SLUICE_CHECK(parts.model->Encode(text, &tokens).ok());
  DecodeRun run(&parts.decoder);
  for (const int32_t id : tokens) {
    const TokenizerParts::Entry* entry = parts.Find(id);
    SLUICE_CHECK(entry != nullptr);
    std::string increment;
    run.Push(entry->decoded, &increment);
    SLUICE_CHECK(!FirstInvalidUtf8(increment).has_value());
  }
  std::string rest;
  run.Flush(&rest);
  SLUICE_CHECK(!FirstInvalidUtf8(rest).has_value());
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const auto parts = sluice::ParseSentencePiece(input, "tokenizer.model", {});
  if (!parts.ok()) {
    SLUICE_CHECK(parts.status().code() == absl::StatusCode::kInvalidArgument);
    return 0;
  }
  std::string pieces;
  for (const auto& entry : (*parts)->entries) {
    if (pieces.size() < 4096) pieces += entry.content;
  }
  for (const std::string& text : {std::string("the <s> quick  brown\n\tfox</s>"),
                                  std::string("\u4E2D\u6587 \U0001F600 e\u0301 \uFDFA"),
                                  std::string("\0\x7F\u0085\u2581\u2581\u3000", 13),
                                  std::string(300, 'a') + std::string(300, ' '), pieces}) {
    sluice::CheckText(**parts, text);
  }
  return 0;
}
