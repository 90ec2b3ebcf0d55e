#include "engine/tokenizer/normalizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/status_macros.h"
#include "engine/tokenizer/nfc.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

absl::StatusOr<std::string> ReplaceAll(const Pattern& pattern, std::string_view content,
                                       std::string_view text, MatchDeadline deadline) {
  std::vector<TextRange> matches;
  SLUICE_RETURN_IF_ERROR(pattern.FindAll(text, deadline, &matches));
  std::string result;
  result.reserve(text.size());
  size_t copied = 0;
  for (const TextRange& match : matches) {
    result.append(text.substr(copied, match.begin - copied));
    result.append(content);
    copied = match.end;
  }
  result.append(text.substr(copied));
  return result;
}

}  // namespace

absl::StatusOr<Normalizer> Normalizer::Parse(const nlohmann::json& value, const std::string& path) {
  Normalizer normalizer;
  if (value.is_null()) return normalizer;
  SLUICE_RETURN_IF_ERROR(ParseInto(value, path, &normalizer.steps_));
  return normalizer;
}

absl::Status Normalizer::ParseInto(const nlohmann::json& value, const std::string& path,
                                   std::vector<Step>* steps) {
  JsonReader reader(value, path);
  const std::string type = reader.String("type", "");
  if (type == "Sequence" && reader.Has("normalizers")) {
    const nlohmann::json& list = reader.Value("normalizers");
    if (!list.is_array()) reader.Refuse("normalizers", "it must be an array");
    SLUICE_RETURN_IF_ERROR(reader.Finish());
    for (size_t i = 0; i < list.size(); ++i) {
      SLUICE_RETURN_IF_ERROR(
          ParseInto(list[i], absl::StrCat(path, ".normalizers[", i, "]"), steps));
    }
    return absl::OkStatus();
  }
  Step step{};
  if (type == "NFC") {
    step.kind = Kind::kNfc;
  } else if (type == "Prepend") {
    step.kind = Kind::kPrepend;
    step.content = reader.String("prepend", "");
  } else if (type == "Replace" && reader.Has("pattern")) {
    step.kind = Kind::kReplace;
    step.content = reader.String("content", "");
    SLUICE_ASSIGN_OR_RETURN(step.pattern,
                            Pattern::Parse(reader.Value("pattern"), path + ".pattern"));
  } else {
    reader.Refuse("type", "supported are Sequence, NFC, Prepend and Replace, with their keys");
  }
  steps->push_back(std::move(step));
  return reader.Finish();
}

absl::StatusOr<std::string> Normalizer::Apply(std::string_view text, MatchDeadline deadline) const {
  std::string result(text);
  for (const Step& step : steps_) {
    if (step.kind == Kind::kNfc) {
      result = ToNfc(result);
    } else if (step.kind == Kind::kReplace) {
      SLUICE_ASSIGN_OR_RETURN(result, ReplaceAll(step.pattern, step.content, result, deadline));
    } else if (!result.empty()) {
      result.insert(0, step.content);
    }
  }
  return result;
}

bool Normalizer::keeps_start() const {
  return std::all_of(steps_.begin(), steps_.end(), [](const Step& step) {
    if (step.kind != Kind::kReplace) return step.kind == Kind::kNfc;
    const std::optional<std::string>& literal = step.pattern.literal();
    return !step.content.empty() && literal.has_value() &&
           Utf8At(*literal, 0).bytes == literal->size();
  });
}

}  // namespace sluice
