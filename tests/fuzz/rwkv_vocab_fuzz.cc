// RWKV's vocabulary of any bytes: refused, or then takes any text apart so that its tokens are the
// text again. What is behind a zero byte is the text. The same lines are tried behind those of the
// 256 bytes too, since few changes leave all of these as they are.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/tokenizer/rwkv.h"
#include "engine/utf8.h"
#include "kernels/check.h"

namespace sluice {
namespace {

std::string ByteLines() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    absl::StrAppend(&lines, byte + 1, absl::StrFormat(" b'\\x%02x' 1\n", byte));
  }
  return lines;
}

void CheckText(const TokenizerParts& parts, std::string_view text) {
  std::vector<int32_t> tokens;
  SLUICE_CHECK(parts.model->Encode(text, &tokens).ok());
  std::string bytes;
  std::string decoded;
  DecodeRun run(&parts.decoder);
  for (const int32_t id : tokens) {
    const TokenizerParts::Entry* entry = parts.Find(id);
    SLUICE_CHECK(entry != nullptr && !entry->special);
    bytes += entry->content;
    std::string increment;
    run.Push(entry->decoded, &increment);
    SLUICE_CHECK(!FirstInvalidUtf8(increment).has_value());
    decoded += increment;
  }
  run.Flush(&decoded);
  SLUICE_CHECK(bytes == text);
  SLUICE_CHECK(FirstInvalidUtf8(text).has_value() || decoded == text);
}

void CheckFile(std::string_view file, std::string_view text) {
  const auto parts = ParseRwkv(file, "vocab.txt", TokenizerConfig());
  if (!parts.ok()) {
    SLUICE_CHECK(parts.status().code() == absl::StatusCode::kInvalidArgument);
    return;
  }
  CheckText(**parts, text);
  CheckText(**parts, file);
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::string bytes = sluice::ByteLines();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t zero = input.find('\0');
  const std::string_view text =
      zero == std::string_view::npos ? std::string_view() : input.substr(zero + 1);
  const std::string_view file = input.substr(0, zero);
  sluice::CheckFile(file, text);
  sluice::CheckFile(bytes + std::string(file), text);
  return 0;
}
