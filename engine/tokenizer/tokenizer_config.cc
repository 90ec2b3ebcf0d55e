#include "engine/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{32} << 20;
constexpr JsonLimits kJsonLimits = {.depth = 32, .values = 8'000'000};

std::optional<bool> OptionalBool(JsonReader* reader, std::string_view key) {
  if (!reader->Has(key)) return std::nullopt;
  return reader->Bool(key, false);
}

// A special token is written as its content, or as an object that has it.
std::optional<std::string> SpecialToken(JsonReader* reader, std::string_view key,
                                        const std::string& source) {
  if (!reader->Has(key)) return std::nullopt;
  const nlohmann::json& value = reader->Value(key);
  if (!value.is_object()) return reader->String(key, "");
  JsonReader inner(value, absl::StrCat(source, ": ", std::string(key)));
  std::string content = inner.String("content", "");
  if (content.empty()) reader->Refuse(key, "its content must be there");
  return content;
}

absl::StatusOr<AddedToken> ParseAddedToken(const std::string& id, const nlohmann::json& value,
                                           const std::string& path) {
  AddedToken token{};
  const bool digits =
      std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || !absl::SimpleAtoi(id, &token.id) || token.id >= TokenizerConfig::kMaxTokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has the key ", Quoted(id), "; ids lie in [0, ", TokenizerConfig::kMaxTokens, ")"));
  }
  JsonReader reader(value, absl::StrCat(path, ".", id));
  token.content = reader.String("content", "");
  token.single_word = reader.Bool("single_word", false);
  token.lstrip = reader.Bool("lstrip", false);
  token.rstrip = reader.Bool("rstrip", false);
  token.special = reader.Bool("special", false);
  // These tokenizers look for all of them in the text as given.
  reader.Ignore({"normalized", "__type"});
  token.normalized = token.content;
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  return token;
}

}  // namespace

absl::StatusOr<TokenizerConfig> TokenizerConfig::Read(const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / TokenizerConfig().source;
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return TokenizerConfig();
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(path, kMaxFileBytes));
  return Parse(text, path.string());
}

absl::StatusOr<TokenizerConfig> TokenizerConfig::Parse(std::string_view text,
                                                       const std::string& source) {
  TokenizerConfig config;
  config.exists = true;
  config.source = source;
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json file, ParseJson(text, config.source, kJsonLimits));
  JsonReader reader(file, config.source);
  if (reader.Has("tokenizer_class")) config.tokenizer_class = reader.String("tokenizer_class", "");
  config.add_bos_token = OptionalBool(&reader, "add_bos_token");
  config.add_eos_token = OptionalBool(&reader, "add_eos_token");
  config.bos_token = SpecialToken(&reader, "bos_token", config.source);
  config.eos_token = SpecialToken(&reader, "eos_token", config.source);
  config.unk_token = SpecialToken(&reader, "unk_token", config.source);
  config.legacy = OptionalBool(&reader, "legacy").value_or(true);
  config.add_prefix_space = OptionalBool(&reader, "add_prefix_space").value_or(true);
  if (!reader.Has("added_tokens_decoder")) {
    SLUICE_RETURN_IF_ERROR(reader.status());
    return config;
  }
  const nlohmann::json& added = reader.Value("added_tokens_decoder");
  if (!added.is_object()) reader.Refuse("added_tokens_decoder", "it must be an object");
  SLUICE_RETURN_IF_ERROR(reader.status());
  for (const auto& [id, value] : added.items()) {
    SLUICE_ASSIGN_OR_RETURN(
        AddedToken token,
        ParseAddedToken(id, value, absl::StrCat(config.source, ": added_tokens_decoder")));
    config.added_tokens.push_back(std::move(token));
  }
  std::sort(config.added_tokens.begin(), config.added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return config;
}

absl::Status TokenizerConfig::AddTokensTo(TokenizerParts* parts) const {
  for (const AddedToken& token : added_tokens) {
    const auto index = static_cast<size_t>(token.id);
    if (index >= parts->entries.size()) parts->entries.resize(index + 1);
    TokenizerParts::Entry& entry = parts->entries[index];
    if (entry.exists && entry.content != token.content) {
      return absl::InvalidArgumentError(
          absl::StrCat(source, ": added_tokens_decoder.", token.id, " is ", Quoted(token.content),
                       "; the vocabulary has ", Quoted(entry.content), " there"));
    }
    entry.content = token.content;
    entry.decoded = token.content;
    entry.exists = true;
    entry.special |= token.special;
    entry.skipped = entry.special;
    parts->ids.emplace(token.content, token.id);
  }
  return absl::OkStatus();
}

absl::StatusOr<PostProcessor> TokenizerConfig::AroundText(const TokenizerParts& parts,
                                                          bool default_add_bos,
                                                          bool default_add_eos) const {
  const auto ids_of =
      [&](const char* key, bool is_added,
          const std::optional<std::string>& token) -> absl::StatusOr<std::vector<int32_t>> {
    if (!is_added) return std::vector<int32_t>();
    const std::string content = token.value_or("");
    const auto added = parts.ids.find(content);
    if (added != parts.ids.end()) return std::vector<int32_t>{added->second};
    const std::optional<int32_t> known = parts.model->Find(content);
    if (known.has_value()) return std::vector<int32_t>{*known};
    return absl::InvalidArgumentError(absl::StrCat(source, ": ", key, " is ", Quoted(content),
                                                   ", which is not in the vocabulary"));
  };
  SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> bos,
                          ids_of("bos_token", add_bos_token.value_or(default_add_bos), bos_token));
  SLUICE_ASSIGN_OR_RETURN(std::vector<int32_t> eos,
                          ids_of("eos_token", add_eos_token.value_or(default_add_eos), eos_token));
  return PostProcessor::Around(std::move(bos), std::move(eos));
}

}  // namespace sluice
