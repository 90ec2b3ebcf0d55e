#include "engine/tokenizer/sentencepiece.h"

#include <array>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/sentencepiece_file.h"
#include "engine/tokenizer/sentencepiece_normalizer.h"
#include "engine/tokenizer/sentencepiece_segmenter.h"

namespace sluice {
namespace {

using Type = SentencePieceFile::Type;

struct SentencePieceModel : TokenModel {
  AddedTokens added;
  SentencePieceNormalizer normalizer;
  std::unique_ptr<const SentencePieceSegmenter> segmenter;
  bool prefix_at_start = true;
  bool prefix_elsewhere = true;
  bool prefix_before_added = false;  // where a text begins with an added token that is not special
  int32_t unknown = 0;
  bool byte_fallback = false;
  std::array<int32_t, 256> bytes{};
  absl::flat_hash_map<std::string, int32_t> ids;
  absl::flat_hash_set<int32_t> specials;  // of the added tokens

  absl::Status Encode(std::string_view text, std::vector<int32_t>* tokens) const override {
    SLUICE_ASSIGN_OR_RETURN(const Pieces pieces, added.Extract(text, Normalizer(), {}));
    for (const Piece& piece : pieces.pieces) {
      const std::string_view content = text.substr(piece.begin, piece.end - piece.begin);
      const bool has_prefix = piece.at_start ? prefix_at_start : prefix_elsewhere;
      std::string normalized;
      if (piece.token == kNoToken) {
        SLUICE_ASSIGN_OR_RETURN(normalized, normalizer.Apply(content, has_prefix));
      } else if (piece.at_start && prefix_before_added && !specials.contains(piece.token)) {
        normalized = kSpaceSymbol;
      }
      std::vector<SentencePieceSegmenter::Segment> segments;
      segmenter->Cut(normalized, &segments);
      AppendTokens(segments, tokens);
      if (piece.token != kNoToken) tokens->push_back(piece.token);
    }
    return absl::OkStatus();
  }

  std::optional<int32_t> Find(std::string_view token) const override {
    const auto found = ids.find(absl::string_view(token.data(), token.size()));
    if (found == ids.end()) return std::nullopt;
    return found->second;
  }

  // Without byte fallback a run of unknown characters is one token.
  void AppendTokens(const std::vector<SentencePieceSegmenter::Segment>& segments,
                    std::vector<int32_t>* tokens) const {
    bool behind_unknown = false;
    for (const SentencePieceSegmenter::Segment& segment : segments) {
      const bool is_unknown = segment.id == SentencePieceSegmenter::kUnknown;
      if (!is_unknown) {
        tokens->push_back(segment.id);
      } else if (byte_fallback) {
        for (const char c : segment.text) tokens->push_back(bytes[static_cast<uint8_t>(c)]);
      } else if (!behind_unknown) {
        tokens->push_back(unknown);
      }
      behind_unknown = is_unknown;
    }
  }
};

absl::Status CheckClass(const TokenizerConfig& config) {
  const std::string& name = config.tokenizer_class;
  if (name.empty() || name == "LlamaTokenizer" || name == "LlamaTokenizerFast") {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(config.source, ": tokenizer_class is ", Quoted(name),
                   "; beside a tokenizer.model only LlamaTokenizer is supported"));
}

// Fills entries, ids and the tables of the model.
void IndexPieces(const SentencePieceFile& file, SentencePieceModel* model, TokenizerParts* parts) {
  parts->entries.resize(file.pieces.size());
  for (size_t i = 0; i < file.pieces.size(); ++i) {
    const SentencePieceFile::Piece& piece = file.pieces[i];
    const auto id = static_cast<int32_t>(i);
    model->ids.emplace(piece.text, id);
    TokenizerParts::Entry& entry = parts->entries[i];
    entry = {piece.text, piece.text, true};
    if (piece.type == Type::kByte) {
      const int32_t byte = ByteOfPiece(piece.text);
      model->bytes[byte] = id;
      entry.decoded = std::string(1, static_cast<char>(byte));
    }
    if (piece.type == Type::kUnknown) model->unknown = id;
    entry.special = piece.type == Type::kUnknown || piece.type == Type::kControl;
    entry.skipped = entry.special;
  }
}

// The tokens that a text is cut at: those of tokenizer_config.json, and the special ones that the
// tokenizer's class knows by name.
std::vector<AddedToken> TokensInText(const TokenizerConfig& config, TokenizerParts* parts,
                                     const SentencePieceModel& model) {
  std::vector<AddedToken> tokens = config.added_tokens;
  for (const auto& named : {config.unk_token, config.bos_token, config.eos_token}) {
    const std::optional<int32_t> id = model.Find(*named);
    if (!id.has_value() || parts->ids.contains(*named)) continue;
    AddedToken token{};
    token.id = *id;
    token.content = *named;
    token.normalized = *named;
    token.special = true;
    parts->ids.emplace(*named, *id);
    parts->entries[*id].special = true;
    parts->entries[*id].skipped = true;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

// What decoding does: the space in front goes, bytes and pieces become text.
std::vector<DecoderStep> DecoderSteps(const SentencePieceFile& file, bool has_prefix) {
  using Kind = DecoderStep::Kind;
  std::vector<DecoderStep> steps;
  const std::string space(kSpaceSymbol);
  if (has_prefix || file.remove_extra_whitespaces) {
    const int64_t count = file.remove_extra_whitespaces ? std::numeric_limits<int64_t>::max() : 1;
    steps.push_back({.kind = Kind::kStripStart, .pattern = space, .content = "", .count = count});
  }
  steps.push_back({.kind = Kind::kReplace, .pattern = space, .content = " "});
  steps.push_back({.kind = Kind::kBytesEach, .pattern = "", .content = ""});
  return steps;
}

}  // namespace

absl::StatusOr<std::unique_ptr<const TokenizerParts>> ParseSentencePiece(
    std::string_view file, const std::string& source, const TokenizerConfig& config) {
  SLUICE_RETURN_IF_ERROR(CheckClass(config));
  SLUICE_ASSIGN_OR_RETURN(const SentencePieceFile parsed, SentencePieceFile::Parse(file, source));
  TokenizerConfig named = config;
  if (!named.unk_token.has_value()) named.unk_token = "<unk>";
  if (!named.bos_token.has_value()) named.bos_token = "<s>";
  if (!named.eos_token.has_value()) named.eos_token = "</s>";

  auto parts = std::make_unique<TokenizerParts>();
  auto model = std::make_unique<SentencePieceModel>();
  SLUICE_ASSIGN_OR_RETURN(model->normalizer, SentencePieceNormalizer::Create(parsed, source));
  model->segmenter = parsed.algorithm == SentencePieceFile::Algorithm::kBpe
                         ? MakeBpeSegmenter(parsed, model->normalizer.user_defined())
                         : MakeUnigramSegmenter(parsed);
  model->byte_fallback = parsed.byte_fallback;
  model->prefix_at_start = named.legacy ? parsed.add_dummy_prefix : named.add_prefix_space;
  model->prefix_elsewhere = named.legacy && parsed.add_dummy_prefix;
  model->prefix_before_added = !named.legacy && named.add_prefix_space;
  IndexPieces(parsed, model.get(), parts.get());
  SLUICE_RETURN_IF_ERROR(named.AddTokensTo(parts.get()));
  SLUICE_ASSIGN_OR_RETURN(
      model->added, AddedTokens::Create(TokensInText(named, parts.get(), *model), named.source));
  for (const AddedToken& token : model->added.tokens()) {
    if (parts->entries[token.id].special) model->specials.insert(token.id);
  }
  parts->decoder = Decoder(DecoderSteps(parsed, model->prefix_at_start));
  parts->model = std::move(model);
  SLUICE_ASSIGN_OR_RETURN(parts->post_processor, named.AroundText(*parts, true, false));
  return parts;
}

}  // namespace sluice
