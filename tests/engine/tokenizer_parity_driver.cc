// What the tests tokenizer_*_parity_test.py talk to: encodes and decodes with the tokenizer of the
// tokenizer.json or of the model directory that is its one argument. Reads records from standard
// input and answers each on standard output; numbers are little-endian u32.
//   'e' bytes text   -> 0, count, ids   or   1, bytes message
//   'd' count ids    -> 0, bytes text   or   1, bytes message
//   's' count ids    -> 0, bytes text: the increments of a stream
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "engine/tokenizer.h"

namespace sluice {
namespace {

// Neither fread nor fwrite takes the null pointer that an empty vector or view may have.
bool Read(void* to, size_t bytes) { return bytes == 0 || std::fread(to, 1, bytes, stdin) == bytes; }

void Write(const void* from, size_t bytes) {
  if (bytes != 0) std::fwrite(from, 1, bytes, stdout);
}

void WriteNumber(uint32_t number) { Write(&number, sizeof(number)); }

void WriteText(absl::string_view text) {
  WriteNumber(static_cast<uint32_t>(text.size()));
  Write(text.data(), text.size());
}

bool AnswerEncode(const Tokenizer& tokenizer, uint32_t bytes) {
  std::string text(bytes, '\0');
  if (!Read(text.data(), bytes)) return false;
  const auto ids = tokenizer.Encode(text, /*add_special_tokens=*/true);
  WriteNumber(ids.ok() ? 0 : 1);
  if (!ids.ok()) {
    WriteText(ids.status().message());
    return true;
  }
  WriteNumber(static_cast<uint32_t>(ids->size()));
  Write(ids->data(), ids->size() * sizeof(int32_t));
  return true;
}

bool AnswerStream(const Tokenizer& tokenizer, uint32_t count) {
  std::vector<int32_t> ids(count);
  if (!Read(ids.data(), count * sizeof(int32_t))) return false;
  StreamDecoder decoder(&tokenizer);
  std::string text;
  for (const int32_t id : ids) text += decoder.Push(id);
  WriteNumber(0);
  WriteText(text + decoder.Flush());
  return true;
}

bool AnswerDecode(const Tokenizer& tokenizer, uint32_t count) {
  std::vector<int32_t> ids(count);
  if (!Read(ids.data(), count * sizeof(int32_t))) return false;
  const auto text = tokenizer.Decode(ids, /*skip_special_tokens=*/true);
  WriteNumber(text.ok() ? 0 : 1);
  WriteText(text.ok() ? absl::string_view(*text) : text.status().message());
  return true;
}

bool Answer(const Tokenizer& tokenizer, int kind, uint32_t size) {
  if (kind == 'e') return AnswerEncode(tokenizer, size);
  return kind == 'd' ? AnswerDecode(tokenizer, size) : AnswerStream(tokenizer, size);
}

int Run(const std::filesystem::path& path) {
  const auto tokenizer =
      std::filesystem::is_directory(path) ? Tokenizer::LoadDirectory(path) : Tokenizer::Load(path);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", std::string(tokenizer.status().message()).c_str());
    return 1;
  }
  for (int kind = std::getchar(); kind != EOF; kind = std::getchar()) {
    uint32_t size = 0;
    if (!Read(&size, sizeof(size))) return 1;
    if (!Answer(**tokenizer, kind, size)) return 1;
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: tokenizer_parity_driver TOKENIZER_JSON | MODEL_DIRECTORY\n");
    return 2;
  }
  return sluice::Run(argv[1]);
}
