// Text of any bytes for the tokenizer of the demo model, one of SentencePiece's and one of RWKV's:
// refused for not being UTF-8, or its tokens are the text again. The bytes are tried as ids too,
// two for each. Every 256th input is repeated to a long text: what is not O(n log n) then takes
// longer than the fuzzer allows.
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/tokenizer.h"
#include "engine/utf8.h"
#include "kernels/check.h"
#include "tests/engine/safetensors_writer.h"
#include "tests/engine/sentencepiece_writer.h"
#include "tests/fuzz/tokenizer_checks.h"

namespace sluice {
namespace {

using TokenizerPtr = std::unique_ptr<const Tokenizer>;

constexpr size_t kLongBytes = 32 << 10;

TokenizerPtr Load(const std::filesystem::path& directory) {
  auto tokenizer = Tokenizer::LoadDirectory(directory);
  SLUICE_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

TokenizerPtr LoadSentencePiece() {
  const ScratchDirectory directory;
  directory.Write("tokenizer.model",
                  SentencePieceBytes(WithBytes({"\u2581", "a", "e", "t", "h", "\u2581t", "he",
                                                "\u2581the", "\u2581\u2581", "\u00E9", "\n"})));
  return Load(directory.path());
}

TokenizerPtr LoadRwkv() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    absl::StrAppend(&lines, byte + 1, absl::StrFormat(" b'\\x%02x' 1\n", byte));
  }
  const ScratchDirectory directory;
  directory.Write("rwkv_vocab_v20230424.txt",
                  lines +
                      "257 'the' 3\n258 ' the' 4\n259 '\\n\\n' 2\n260 b'\\xe4\\xb8' 2\n"
                      "261 '\u4E2D\u6587' 6\n262 '        ' 8\n");
  return Load(directory.path());
}

// SentencePiece writes a space as U+2581, and puts one behind a token that stands in the text.
bool SurvivesSentencePiece(std::string_view text) {
  for (const char* changed : {"\u2581", "<unk>", "<s>", "</s>"}) {
    if (text.find(changed) != std::string_view::npos) return false;
  }
  return true;
}

struct Known {
  const Tokenizer& tokenizer;
  bool keeps_text;
};

void CheckText(const Known& known, std::string_view text) {
  const auto ids = CheckEncoding(known.tokenizer, text);
  SLUICE_CHECK(ids.has_value() == !FirstInvalidUtf8(text).has_value());
  if (!ids.has_value()) return;
  SLUICE_CHECK(ids->size() <= text.size() + 4);  // begin of text, and a space of three bytes
  if (!known.keeps_text) return;
  const auto alone = known.tokenizer.Encode(text, /*add_special_tokens=*/false);
  SLUICE_CHECK(*known.tokenizer.Decode(*alone, /*skip_special_tokens=*/false) == text);
}

// Ids that need not be in the vocabulary.
void CheckIds(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<int32_t> known;
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    const int32_t id = static_cast<uint8_t>(bytes[i]) | static_cast<uint8_t>(bytes[i + 1]) << 8;
    if (!tokenizer.IdToToken(id).empty()) known.push_back(id);
    if (id < tokenizer.vocab_size()) continue;
    SLUICE_CHECK(tokenizer.Decode({id}, false).status().code() == absl::StatusCode::kOutOfRange);
  }
  CheckDecoding(tokenizer, known);
}

void CheckAll(std::string_view text) {
  static const TokenizerPtr demo = Load(SLUICE_SOURCE_DIR "/models/demo");
  static const TokenizerPtr sentencepiece = LoadSentencePiece();
  static const TokenizerPtr rwkv = LoadRwkv();
  for (const Known& known : {Known{*demo, true}, Known{*rwkv, true},
                             Known{*sentencepiece, SurvivesSentencePiece(text)}}) {
    CheckText(known, text);
    CheckIds(known.tokenizer, text.substr(0, 256));
  }
}

}  // namespace
}  // namespace sluice

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  sluice::CheckAll(text);
  if (text.empty() || std::hash<std::string_view>()(text) % 256 != 0) return 0;
  std::string repeated;
  while (repeated.size() < sluice::kLongBytes) repeated += text;
  sluice::CheckAll(repeated);
  return 0;
}
