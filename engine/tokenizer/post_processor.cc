#include "engine/tokenizer/post_processor.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/bpe.h"

namespace sluice {
namespace {

// A template that names the sequence twice doubles the tokens; no more than so many in a file.
constexpr size_t kMaxTemplateItems = 64;

}  // namespace

absl::StatusOr<PostProcessor> PostProcessor::Parse(const nlohmann::json& value,
                                                   const std::string& path) {
  PostProcessor processor;
  if (value.is_null()) return processor;
  SLUICE_RETURN_IF_ERROR(processor.ParseInto(value, path));
  return processor;
}

PostProcessor PostProcessor::Around(std::vector<int32_t> before, std::vector<int32_t> behind) {
  PostProcessor processor;
  processor.templates_.push_back(
      {Item{false, std::move(before)}, Item{true, {}}, Item{false, std::move(behind)}});
  return processor;
}

absl::Status PostProcessor::ParseInto(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  const std::string type = reader.String("type", "");
  if (type == "ByteLevel") {
    reader.Ignore({"add_prefix_space", "trim_offsets", "use_regex"});
    return reader.Finish();
  }
  const bool is_sequence = type == "Sequence" && reader.Has("processors");
  const bool is_template = type == "TemplateProcessing" && reader.Has("single");
  if (!is_sequence && !is_template) {
    reader.Refuse("type", "supported are Sequence, ByteLevel and TemplateProcessing");
    return reader.status();
  }
  const std::string key = is_sequence ? "processors" : "single";
  const nlohmann::json& list = reader.Value(key);
  if (!list.is_array() || list.size() > kMaxTemplateItems) {
    reader.Refuse(key, absl::StrCat("it must be an array of at most ", kMaxTemplateItems));
  }
  reader.Ignore({"pair"});  // for two sequences, which we never encode
  if (is_template && !reader.Has("special_tokens")) reader.Refuse("special_tokens", "missing");
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  if (is_sequence) {
    for (size_t i = 0; i < list.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(ParseInto(list[i], absl::StrCat(path, ".processors[", i, "]")));
    }
    return absl::OkStatus();
  }
  SLUICE_ASSIGN_OR_RETURN(
      const SpecialTokens special_tokens,
      ParseSpecialTokens(reader.Value("special_tokens"), path + ".special_tokens"));
  Template items;
  size_t sequences = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string item_path = absl::StrCat(path, ".single[", i, "]");
    SLUICE_ASSIGN_OR_RETURN(Item item, ParseItem(list[i], item_path, special_tokens));
    sequences += item.is_sequence ? 1 : 0;
    items.push_back(std::move(item));
  }
  if (sequences != 1) reader.Refuse("single", "it must have the sequence once");
  templates_.push_back(std::move(items));
  return reader.status();
}

absl::StatusOr<PostProcessor::SpecialTokens> PostProcessor::ParseSpecialTokens(
    const nlohmann::json& value, const std::string& path) {
  SpecialTokens result;
  if (!value.is_object()) {
    return absl::InvalidArgumentError(absl::StrCat(path, " must be an object"));
  }
  for (const auto& [name, token] : value.items()) {
    const std::string token_path = absl::StrCat(path, ".", name);
    JsonReader reader(token, token_path);
    reader.Ignore({"id", "tokens"});
    const bool has_ids = reader.Has("ids") && reader.Value("ids").is_array();
    if (!has_ids) reader.Refuse("ids", "it must be an array");
    SLUICE_RETURN_IF_ERROR(reader.Finish());
    std::vector<int32_t>& ids = result[name];
    for (const nlohmann::json& id : reader.Value("ids")) {
      const nlohmann::json wrapped = {{"ids", id}};
      JsonReader id_reader(wrapped, token_path);
      ids.push_back(static_cast<int32_t>(id_reader.Int("ids", 0, 0, BpeModel::kMaxId)));
      SLUICE_RETURN_IF_ERROR(id_reader.status());
    }
  }
  return result;
}

absl::StatusOr<PostProcessor::Item> PostProcessor::ParseItem(const nlohmann::json& value,
                                                             const std::string& path,
                                                             const SpecialTokens& special_tokens) {
  JsonReader reader(value, path);
  const bool is_sequence = reader.Has("Sequence");
  const std::string key = is_sequence ? "Sequence" : "SpecialToken";
  if (!reader.Has(key)) reader.Refuse(key, "it must be there");
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  JsonReader inner(reader.Value(key), absl::StrCat(path, ".", key));
  inner.Ignore({"type_id"});
  const std::string id = inner.String("id", "");
  SLUICE_RETURN_IF_ERROR(inner.Finish());
  if (is_sequence) {
    if (id != "A") inner.Refuse("id", "a single sequence is \"A\"");
    SLUICE_RETURN_IF_ERROR(inner.status());
    return Item{true, {}};
  }
  const auto known = special_tokens.find(id);
  if (known == special_tokens.end()) {
    inner.Refuse("id", "it is not in special_tokens");
    return inner.status();
  }
  return Item{false, known->second};
}

std::vector<int32_t> PostProcessor::Apply(std::vector<int32_t> tokens,
                                          bool add_special_tokens) const {
  if (!add_special_tokens) return tokens;
  for (const Template& items : templates_) {
    std::vector<int32_t> result;
    result.reserve(tokens.size() + items.size());
    for (const Item& item : items) {
      const std::vector<int32_t>& part = item.is_sequence ? tokens : item.tokens;
      result.insert(result.end(), part.begin(), part.end());
    }
    tokens = std::move(result);
  }
  return tokens;
}

std::vector<int32_t> PostProcessor::AddedTokens() const {
  std::vector<int32_t> result;
  for (const Template& items : templates_) {
    for (const Item& item : items) {
      result.insert(result.end(), item.tokens.begin(), item.tokens.end());
    }
  }
  return result;
}

}  // namespace sluice
