#include "client/loadgen/prompt_file.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/proto_convert.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
constexpr JsonLimits kLineLimits = {.depth = 3, .values = (int64_t{1} << 24) + 8};
constexpr int64_t kMaxUint32 = std::numeric_limits<uint32_t>::max();

absl::Status Wrong(const std::string& where, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
}

// Whether it is a whole number from `low` to the most that a message can carry.
bool IsWhole(const nlohmann::json& value, int64_t low) {
  return value.is_number_integer() && value >= low && value <= kMaxUint32;
}

absl::Status ReadIds(const nlohmann::json& ids, const std::string& where, Prompt* prompt) {
  if (!ids.is_array()) return Wrong(where, "token_ids is not a list");
  for (const nlohmann::json& id : ids) {
    if (!IsWhole(id, 0)) return Wrong(where, "token_ids holds what is no token id");
    prompt->token_ids.push_back(id.get<uint32_t>());
  }
  return absl::OkStatus();
}

absl::StatusOr<Prompt> ReadObject(absl::string_view line, const std::string& where) {
  SLUICE_ASSIGN_OR_RETURN(
      const nlohmann::json json,
      ParseJson(std::string_view(line.data(), line.size()), where, kLineLimits));
  if (!json.is_object()) return Wrong(where, "no JSON object");
  Prompt prompt;
  for (const auto& [key, value] : json.items()) {
    if (key == "text") {
      if (!value.is_string()) return Wrong(where, "text is not a string");
      prompt.text = value.get<std::string>();
    } else if (key == "token_ids") {
      SLUICE_RETURN_IF_ERROR(ReadIds(value, where, &prompt));
    } else if (key == "max_tokens") {
      if (!IsWhole(value, 1)) return Wrong(where, "max_tokens is not a whole number from 1");
      prompt.max_tokens = value.get<int64_t>();
    } else {
      return Wrong(where, absl::StrCat("\"", key, "\" is none of text, token_ids, max_tokens"));
    }
  }
  if (prompt.text.has_value() == !prompt.token_ids.empty()) {
    return Wrong(where, "give exactly one of text and token_ids");
  }
  if (prompt.text.has_value() && prompt.text->empty()) return Wrong(where, "text is empty");
  return prompt;
}

}  // namespace

absl::StatusOr<std::vector<Prompt>> ReadPromptFile(const std::string& path) {
  SLUICE_ASSIGN_OR_RETURN(const std::string content, ReadWholeFile(path, kMaxFileBytes));
  const bool json = absl::EndsWith(path, ".jsonl");
  std::vector<Prompt> prompts;
  int64_t number = 0;
  for (absl::string_view line : absl::StrSplit(content, '\n')) {
    ++number;
    absl::ConsumeSuffix(&line, "\r");
    if (line.empty()) continue;
    const std::string where = absl::StrCat(path, ", line ", number);
    if (json) {
      SLUICE_ASSIGN_OR_RETURN(Prompt prompt, ReadObject(line, where));
      prompts.push_back(std::move(prompt));
      continue;
    }
    SLUICE_RETURN_IF_ERROR(CheckUtf8(where, std::string(line)));
    prompts.emplace_back().text = std::string(line);
  }
  if (prompts.empty()) return absl::InvalidArgumentError(absl::StrCat(path, " holds no prompts"));
  return prompts;
}

}  // namespace sluice
