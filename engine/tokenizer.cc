#include "engine/tokenizer.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/decoder.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/pre_tokenizer.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{128} << 20;
constexpr JsonLimits kJsonLimits = {.depth = 32, .values = 8'000'000};
constexpr size_t kMaxTextBytes = size_t{1} << 30;

// Patterns in use need microseconds; this is for those that a file may have been made to hang with.
constexpr std::chrono::seconds kMaxMatchTime(5);

}  // namespace

struct TokenizerParts {
  struct Entry {
    std::string content;  // as the file has it
    std::string decoded;  // as the decoder is given it
    bool exists = false;
    bool special = false;  // by its content
    bool skipped = false;  // by what the decoder is given: Hugging Face compares that
  };

  Normalizer normalizer;
  BpeModel model;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  PostProcessor post_processor;
  Decoder decoder;
  std::vector<Entry> entries;                     // by id
  absl::flat_hash_map<std::string, int32_t> ids;  // of the added tokens; the model has the others

  const Entry* Find(int32_t id) const {
    if (id < 0 || id >= static_cast<int64_t>(entries.size()) || !entries[id].exists) return nullptr;
    return &entries[id];
  }

  void Index();
};

void TokenizerParts::Index() {
  int32_t highest = -1;
  for (const auto& [token, id] : model.vocab()) highest = std::max(highest, id);
  for (const AddedToken& token : added.tokens()) highest = std::max(highest, token.id);
  entries.resize(static_cast<size_t>(highest) + 1);
  absl::flat_hash_set<std::string> special;
  for (const AddedToken& token : added.tokens()) {
    if (token.special) special.insert(token.content);
  }
  for (const auto& [token, id] : model.vocab()) entries[id] = {token, token, true};
  for (const AddedToken& token : added.tokens()) {
    entries[token.id] = {token.content, token.normalized, true};
    ids.emplace(token.content, token.id);
  }
  for (Entry& entry : entries) {
    entry.special = entry.exists && special.contains(entry.content);
    entry.skipped = entry.exists && special.contains(entry.decoded);
  }
}

namespace {

absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseParts(std::string_view json,
                                                                 const std::string& source) {
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json file, ParseJson(json, source, kJsonLimits));
  JsonReader reader(file, source);
  if (reader.String("version", "1.0") != "1.0") reader.Refuse("version", "only 1.0 is known");
  if (reader.Has("truncation")) reader.Refuse("truncation", "it is not supported");
  if (reader.Has("padding")) reader.Refuse("padding", "it is not supported");
  if (!reader.Has("model")) reader.Refuse("model", "it must be there");
  SLUICE_RETURN_IF_ERROR(reader.status());
  const auto part = [&](std::string_view key) -> nlohmann::json {
    return reader.Has(key) ? reader.Value(key) : nlohmann::json();
  };
  const auto path = [&](std::string_view key) {
    return absl::StrCat(source, ": ", std::string(key));
  };
  auto parts = std::make_unique<TokenizerParts>();
  SLUICE_ASSIGN_OR_RETURN(parts->normalizer,
                          Normalizer::Parse(part("normalizer"), path("normalizer")));
  SLUICE_ASSIGN_OR_RETURN(parts->model, BpeModel::Parse(reader.Value("model"), path("model")));
  SLUICE_ASSIGN_OR_RETURN(
      parts->added, AddedTokens::Parse(part("added_tokens"), path("added_tokens"), parts->model,
                                       parts->normalizer));
  SLUICE_ASSIGN_OR_RETURN(parts->pre_tokenizer,
                          PreTokenizer::Parse(part("pre_tokenizer"), path("pre_tokenizer"),
                                              parts->normalizer.keeps_start()));
  SLUICE_ASSIGN_OR_RETURN(parts->post_processor,
                          PostProcessor::Parse(part("post_processor"), path("post_processor")));
  SLUICE_ASSIGN_OR_RETURN(parts->decoder, Decoder::Parse(part("decoder"), path("decoder")));
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  parts->Index();
  for (const int32_t id : parts->post_processor.AddedTokens()) {
    if (parts->Find(id) != nullptr) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path("post_processor"), " adds the id ", id, ", which is not in the vocab"));
  }
  return parts;
}

// Appends the tokens of every piece.
void EncodePieces(const BpeModel& model, const Pieces& pieces, std::vector<int32_t>* tokens) {
  const std::string_view text = pieces.text;
  BpeModel::Scratch scratch;
  for (const Piece& piece : pieces.pieces) {
    if (piece.token != kNoToken) {
      tokens->push_back(piece.token);
    } else {
      model.Encode(text.substr(piece.begin, piece.end - piece.begin), &scratch, tokens);
    }
  }
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}

Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(
    const std::filesystem::path& file) {
  SLUICE_ASSIGN_OR_RETURN(const std::string json, ReadWholeFile(file, kMaxFileBytes));
  SLUICE_ASSIGN_OR_RETURN(auto parts, ParseParts(json, file.string()));
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Parse(std::string_view json) {
  SLUICE_ASSIGN_OR_RETURN(auto parts, ParseParts(json, "tokenizer.json"));
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
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
  const MatchDeadline deadline = std::chrono::steady_clock::now() + kMaxMatchTime;
  SLUICE_ASSIGN_OR_RETURN(Pieces pieces, parts_->added.Extract(text, parts_->normalizer, deadline));
  SLUICE_RETURN_IF_ERROR(parts_->pre_tokenizer.Apply(deadline, &pieces));
  std::vector<int32_t> tokens;
  EncodePieces(parts_->model, pieces, &tokens);
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
  const absl::string_view key(token.data(), token.size());
  const auto added = parts_->ids.find(key);
  if (added != parts_->ids.end()) return added->second;
  const auto known = parts_->model.vocab().find(key);
  if (known != parts_->model.vocab().end()) return known->second;
  return std::nullopt;
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
