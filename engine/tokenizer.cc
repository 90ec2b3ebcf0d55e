#include "engine/tokenizer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/parts.h"
#include "engine/tokenizer/rwkv.h"
#include "engine/tokenizer/sentencepiece.h"
#include "engine/tokenizer/tokenizer_config.h"
#include "engine/tokenizer/tokenizer_json.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

constexpr int64_t kMaxJsonBytes = int64_t{128} << 20;
constexpr int64_t kMaxModelBytes = int64_t{64} << 20;
constexpr int64_t kMaxRwkvBytes = int64_t{16} << 20;
constexpr size_t kMaxTextBytes = size_t{1} << 30;

bool Exists(const std::filesystem::path& file) {
  std::error_code error;
  return std::filesystem::exists(file, error);
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(
    const std::filesystem::path& file) {
  SLUICE_ASSIGN_OR_RETURN(const std::string json, ReadWholeFile(file, kMaxJsonBytes));
  SLUICE_ASSIGN_OR_RETURN(auto parts, ParseTokenizerJson(json, file.string()));
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Parse(std::string_view json) {
  SLUICE_ASSIGN_OR_RETURN(auto parts, ParseTokenizerJson(json, "tokenizer.json"));
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

// The one place that decides which file of a model directory is its tokenizer.
absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::LoadDirectory(
    const std::filesystem::path& directory) {
  if (Exists(directory / "tokenizer.json")) return Load(directory / "tokenizer.json");
  SLUICE_ASSIGN_OR_RETURN(const TokenizerConfig config, TokenizerConfig::Read(directory));
  if (const auto file = directory / "tokenizer.model"; Exists(file)) {
    SLUICE_ASSIGN_OR_RETURN(const std::string bytes, ReadWholeFile(file, kMaxModelBytes));
    SLUICE_ASSIGN_OR_RETURN(auto parts, ParseSentencePiece(bytes, file.string(), config));
    return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
  }
  for (const std::string& name : RwkvVocabularyNames(config)) {
    const std::filesystem::path file = directory / name;
    if (!Exists(file)) continue;
    SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(file, kMaxRwkvBytes));
    SLUICE_ASSIGN_OR_RETURN(auto parts, ParseRwkv(text, file.string(), config));
    return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
  }
  return absl::NotFoundError(
      absl::StrCat("the model directory ", directory.string(),
                   " has no tokenizer: none of tokenizer.json, tokenizer.model and "
                   "rwkv_vocab_v20230424.txt (or vocab.txt, if tokenizer_config.json names one of "
                   "RWKV's tokenizers)"));
}

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", text.size(), " bytes; the limit is ", kMaxTextBytes));
  }
  const std::optional<size_t> invalid = FirstInvalidUtf8(text);
  if (invalid.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text is not valid UTF-8 at byte ", *invalid));
  }
  std::vector<int32_t> tokens;
  SLUICE_RETURN_IF_ERROR(parts_->model->Encode(text, &tokens));
  return parts_->post_processor.Apply(std::move(tokens), add_special_tokens);
}

absl::StatusOr<std::string> Tokenizer::Decode(absl::Span<const int32_t> ids,
                                              bool skip_special_tokens) const {
  DecodeRun run(&parts_->decoder);
  std::string text;
  for (const int32_t id : ids) {
    const TokenizerParts::Entry* entry = parts_->Find(id);
    if (entry == nullptr) {
      return absl::OutOfRangeError(
          absl::StrCat("the token id ", id, " is not in the vocabulary of ", vocab_size(), " ids"));
    }
    if (!skip_special_tokens || !entry->skipped) run.Push(entry->decoded, &text);
  }
  run.Flush(&text);
  return text;
}

int32_t Tokenizer::vocab_size() const { return static_cast<int32_t>(parts_->entries.size()); }

std::string_view Tokenizer::IdToToken(int32_t id) const {
  const TokenizerParts::Entry* entry = parts_->Find(id);
  return entry == nullptr ? std::string_view() : std::string_view(entry->content);
}

std::optional<int32_t> Tokenizer::TokenToId(std::string_view token) const {
  const auto added = parts_->ids.find(absl::string_view(token.data(), token.size()));
  if (added != parts_->ids.end()) return added->second;
  return parts_->model->Find(token);
}

bool Tokenizer::IsSpecial(int32_t id) const {
  const TokenizerParts::Entry* entry = parts_->Find(id);
  return entry != nullptr && entry->special;
}

StreamDecoder::StreamDecoder(const Tokenizer* tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer),
      skip_special_tokens_(skip_special_tokens),
      run_(std::make_unique<DecodeRun>(&tokenizer->parts_->decoder)) {}

StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::Push(int32_t id) {
  std::string text;
  const TokenizerParts::Entry* entry = tokenizer_->parts_->Find(id);
  if (entry == nullptr || (skip_special_tokens_ && entry->skipped)) return text;
  run_->Push(entry->decoded, &text);
  return text;
}

std::string StreamDecoder::Flush() {
  std::string text;
  run_->Flush(&text);
  return text;
}

}  // namespace sluice
