#include "engine/tokenizer/tokenizer_json.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/added_tokens.h"
#include "engine/tokenizer/bpe.h"
#include "engine/tokenizer/normalizer.h"
#include "engine/tokenizer/pre_tokenizer.h"

namespace sluice {
namespace {

constexpr JsonLimits kJsonLimits = {.depth = 32, .values = 8'000'000};

// Patterns in use need microseconds; this is for those that a file may have been made to hang with.
constexpr std::chrono::seconds kMaxMatchTime(5);

// What the file says is done to a text, in this order.
struct JsonModel : TokenModel {
  AddedTokens added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  BpeModel bpe;

  absl::Status Encode(std::string_view text, std::vector<int32_t>* tokens) const override {
    const MatchDeadline deadline = std::chrono::steady_clock::now() + kMaxMatchTime;
    SLUICE_ASSIGN_OR_RETURN(Pieces pieces, added.Extract(text, normalizer, deadline));
    SLUICE_RETURN_IF_ERROR(pre_tokenizer.Apply(deadline, &pieces));
    const std::string_view normalized = pieces.text;
    BpeModel::Scratch scratch;
    for (const Piece& piece : pieces.pieces) {
      if (piece.token != kNoToken) {
        tokens->push_back(piece.token);
      } else {
        bpe.Encode(normalized.substr(piece.begin, piece.end - piece.begin), &scratch, tokens);
      }
    }
    return absl::OkStatus();
  }

  std::optional<int32_t> Find(std::string_view token) const override {
    const auto known = bpe.vocab().find(absl::string_view(token.data(), token.size()));
    if (known == bpe.vocab().end()) return std::nullopt;
    return known->second;
  }
};

void Index(const JsonModel& model, TokenizerParts* parts) {
  using Entry = TokenizerParts::Entry;
  const std::vector<AddedToken>& added = model.added.tokens();
  int32_t highest = -1;
  for (const auto& [token, id] : model.bpe.vocab()) highest = std::max(highest, id);
  for (const AddedToken& token : added) highest = std::max(highest, token.id);
  parts->entries.resize(static_cast<size_t>(highest) + 1);
  absl::flat_hash_set<std::string> special;
  for (const AddedToken& token : added) {
    if (token.special) special.insert(token.content);
  }
  for (const auto& [token, id] : model.bpe.vocab()) parts->entries[id] = Entry{token, token, true};
  for (const AddedToken& token : added) {
    parts->entries[token.id] = Entry{token.content, token.normalized, true};
    parts->ids.emplace(token.content, token.id);
  }
  for (Entry& entry : parts->entries) {
    entry.special = entry.exists && special.contains(entry.content);
    entry.skipped = entry.exists && special.contains(entry.decoded);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseTokenizerJson(
    std::string_view json, const std::string& source) {
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
  auto model = std::make_unique<JsonModel>();
  auto parts = std::make_unique<TokenizerParts>();
  SLUICE_ASSIGN_OR_RETURN(model->normalizer,
                          Normalizer::Parse(part("normalizer"), path("normalizer")));
  SLUICE_ASSIGN_OR_RETURN(model->bpe, BpeModel::Parse(reader.Value("model"), path("model")));
  SLUICE_ASSIGN_OR_RETURN(model->added,
                          AddedTokens::Parse(part("added_tokens"), path("added_tokens"), model->bpe,
                                             model->normalizer));
  SLUICE_ASSIGN_OR_RETURN(model->pre_tokenizer,
                          PreTokenizer::Parse(part("pre_tokenizer"), path("pre_tokenizer"),
                                              model->normalizer.keeps_start()));
  SLUICE_ASSIGN_OR_RETURN(parts->post_processor,
                          PostProcessor::Parse(part("post_processor"), path("post_processor")));
  SLUICE_ASSIGN_OR_RETURN(parts->decoder, Decoder::Parse(part("decoder"), path("decoder")));
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  Index(*model, parts.get());
  parts->model = std::move(model);
  for (const int32_t id : parts->post_processor.AddedTokens()) {
    if (parts->Find(id) != nullptr) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path("post_processor"), " adds the id ", id, ", which is not in the vocab"));
  }
  return parts;
}

}  // namespace sluice
