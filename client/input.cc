#include "client/input.h"

#include <istream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/json.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr int64_t kMaxFileBytes = int64_t{1} << 30;
// Every token that an engine can be made to accept, and the brackets around them.
constexpr JsonLimits kTokenIdsLimits = {.depth = 2, .values = (int64_t{1} << 24) + 2};

absl::StatusOr<std::vector<int64_t>> ParseList(absl::string_view list) {
  std::vector<int64_t> ids;
  for (absl::string_view item : absl::StrSplit(list, ',')) {
    int64_t id = 0;
    if (!absl::SimpleAtoi(item, &id)) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", item, "\" in the list of token ids is not a whole number"));
    }
    ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<std::vector<int64_t>> ReadTokenIdsFile(const std::string& file) {
  SLUICE_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(file, kMaxFileBytes));
  SLUICE_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, file, kTokenIdsLimits));
  const nlohmann::json* list = &json;
  if (json.is_object() && json.contains("token_ids")) list = &json["token_ids"];
  if (!list->is_array()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " holds neither a list of token ids nor {\"token_ids\": [...]}"));
  }
  std::vector<int64_t> ids;
  ids.reserve(list->size());
  for (const nlohmann::json& item : *list) {
    if (!item.is_number_integer()) {
      return absl::InvalidArgumentError(absl::StrCat(file, ": token_ids[", ids.size(), "] is ",
                                                     item.dump(-1, ' ', true),
                                                     ", not a whole number"));
    }
    ids.push_back(item.get<int64_t>());
  }
  return ids;
}

}  // namespace

std::string CheckOneInput(absl::Span<const std::string> operands, const InputOptions& options) {
  const size_t named =
      operands.size() + (options.file.empty() ? 0 : 1) + (options.token_ids.empty() ? 0 : 1);
  if (named == 0) return "there is no text: give it as an operand, with --file or --token-ids";
  if (named > 1) return "give one text: an operand (quoted), --file or --token-ids";
  return "";
}

absl::Status ReadInput(absl::Span<const std::string> operands, const InputOptions& options,
                       std::istream& in, Request* request) {
  if (!options.token_ids.empty()) {
    SLUICE_ASSIGN_OR_RETURN(request->token_ids, ReadTokenIds(options.token_ids));
  } else if (!options.file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(request->text, ReadWholeFile(options.file, kMaxFileBytes));
  } else if (operands[0] == "-") {
    request->text.emplace(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  } else {
    request->text = operands[0];
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> ReadTokenIds(absl::string_view list_or_file) {
  const bool list = list_or_file.find_first_not_of("0123456789,- ") == absl::string_view::npos;
  return list ? ParseList(list_or_file) : ReadTokenIdsFile(std::string(list_or_file));
}

}  // namespace sluice
