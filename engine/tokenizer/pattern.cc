#include "engine/tokenizer/pattern.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<Pattern> Pattern::Parse(const nlohmann::json& value, const std::string& path) {
  JsonReader reader(value, path);
  const bool is_regex = reader.Has("Regex");
  const std::string_view key = is_regex ? "Regex" : "String";
  const std::string text = reader.String(key, "");
  if (text.empty()) reader.Refuse(key, "it must be a string that is not empty");
  SLUICE_RETURN_IF_ERROR(reader.Finish());
  if (is_regex) {
    absl::StatusOr<Pattern> pattern = FromRegex(text);
    if (pattern.ok()) return pattern;
    return absl::InvalidArgumentError(absl::StrCat(path, ".Regex: ", pattern.status().message()));
  }
  Pattern pattern;
  pattern.literal_ = text;
  return pattern;
}

absl::StatusOr<Pattern> Pattern::FromRegex(std::string_view regex) {
  Pattern pattern;
  SLUICE_ASSIGN_OR_RETURN(pattern.regex_, Regex::Compile(regex));
  return pattern;
}

absl::Status Pattern::FindAll(std::string_view text, MatchDeadline deadline,
                              std::vector<TextRange>* matches) const {
  if (!literal_.has_value()) return regex_.FindAll(text, deadline, matches);
  for (size_t at = text.find(*literal_); at != std::string_view::npos;
       at = text.find(*literal_, at + literal_->size())) {
    matches->push_back({at, at + literal_->size()});
  }
  return absl::OkStatus();
}

}  // namespace sluice
