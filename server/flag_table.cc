#include "server/flag_table.h"

#include <algorithm>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace sluice {
namespace {

absl::CommandLineFlag* FindFlag(FlagNames names, const std::string& name) {
  if (std::find(names.begin(), names.end(), name) == names.end()) return nullptr;
  return absl::FindCommandLineFlag(name);
}

}  // namespace

std::string Dashed(std::string_view name) {
  return absl::StrReplaceAll(absl::string_view(name.data(), name.size()), {{"_", "-"}});
}

absl::Status SetFlag(FlagNames names, const std::vector<std::string>& arguments, size_t* index) {
  const std::string& argument = arguments[(*index)++];
  if (!absl::StartsWith(argument, "--") || argument.size() == 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument '", argument, "': every option begins with --"));
  }
  const size_t equals = argument.find('=');
  const std::string given = argument.substr(0, equals);
  absl::CommandLineFlag* flag = FindFlag(names, absl::StrReplaceAll(given.substr(2), {{"-", "_"}}));
  if (flag == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("unknown flag ", given, "; --help lists all"));
  }
  if (equals == std::string::npos && *index == arguments.size()) {
    return absl::InvalidArgumentError(absl::StrCat(given, " needs a value"));
  }
  const std::string value =
      equals == std::string::npos ? arguments[(*index)++] : argument.substr(equals + 1);
  std::string error;
  if (flag->ParseFrom(value, &error)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(given, "=", value, ": not valid", error.empty() ? "" : ": ", error));
}

std::vector<std::pair<std::string, std::string>> ValuesOf(FlagNames names) {
  std::vector<std::pair<std::string, std::string>> values;
  for (const std::string_view name : names) {
    const absl::CommandLineFlag* flag = FindFlag(names, std::string(name));
    values.emplace_back(absl::StrCat("--", Dashed(name)), flag->CurrentValue());
  }
  return values;
}

std::string HelpOf(FlagNames names) {
  std::string text;
  for (const std::string_view name : names) {
    const absl::CommandLineFlag* flag = FindFlag(names, std::string(name));
    const std::string value = flag->DefaultValue();
    absl::StrAppend(&text, "  --", Dashed(name));
    if (!value.empty()) absl::StrAppend(&text, " (", value, ")");
    absl::StrAppend(&text, "\n      ", flag->Help(), "\n");
  }
  return text;
}

}  // namespace sluice
