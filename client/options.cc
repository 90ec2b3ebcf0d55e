#include "client/options.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr size_t kHelpColumns = 80;
constexpr size_t kHelpIndent = 30;

absl::Status NotANumber(absl::string_view text) {
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a number"));
}

// `text` in lines that end before kHelpColumns, each after the first indented.
std::string Wrapped(absl::string_view text) {
  std::string out;
  size_t column = kHelpIndent;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    if (column > kHelpIndent && column + 1 + word.size() > kHelpColumns) {
      absl::StrAppend(&out, "\n", std::string(kHelpIndent, ' '));
      column = kHelpIndent;
    } else if (column > kHelpIndent) {
      out.push_back(' ');
      ++column;
    }
    absl::StrAppend(&out, word);
    column += word.size();
  }
  return out;
}

}  // namespace

void OptionTable::Section(absl::string_view title) {
  options_.push_back({"", "", std::string(title), nullptr});
}

void OptionTable::Flag(absl::string_view name, bool* target, absl::string_view help) {
  auto set = [target](absl::string_view) {
    *target = true;
    return absl::OkStatus();
  };
  options_.push_back({std::string(name), "", std::string(help), set});
}

void OptionTable::Text(absl::string_view name, absl::string_view value, std::string* target,
                       absl::string_view help) {
  auto set = [target](absl::string_view text) {
    *target = std::string(text);
    return absl::OkStatus();
  };
  Custom(name, value, set, help);
}

void OptionTable::Number(absl::string_view name, absl::string_view value,
                         std::optional<float>* target, absl::string_view help) {
  auto set = [target](absl::string_view text) {
    float number = 0;
    if (!absl::SimpleAtof(text, &number)) return NotANumber(text);
    *target = number;
    return absl::OkStatus();
  };
  Custom(name, value, set, help);
}

void OptionTable::Number(absl::string_view name, absl::string_view value,
                         std::optional<double>* target, absl::string_view help) {
  auto set = [target](absl::string_view text) {
    double number = 0;
    if (!absl::SimpleAtod(text, &number)) return NotANumber(text);
    *target = number;
    return absl::OkStatus();
  };
  Custom(name, value, set, help);
}

void OptionTable::Integer(absl::string_view name, absl::string_view value,
                          std::optional<int64_t>* target, absl::string_view help) {
  auto set = [target](absl::string_view text) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(text, &number)) {
      return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not a whole number"));
    }
    *target = number;
    return absl::OkStatus();
  };
  Custom(name, value, set, help);
}

void OptionTable::Custom(absl::string_view name, absl::string_view value,
                         std::function<absl::Status(absl::string_view)> set,
                         absl::string_view help) {
  options_.push_back({std::string(name), std::string(value), std::string(help), std::move(set)});
}

const OptionTable::Option* OptionTable::Find(absl::string_view name) const {
  const auto found = std::find_if(options_.begin(), options_.end(), [name](const Option& option) {
    return option.set != nullptr && option.name == name;
  });
  return found == options_.end() ? nullptr : &*found;
}

absl::Status OptionTable::Parse(absl::Span<const std::string> args,
                                std::vector<std::string>* operands) const {
  for (size_t i = 0; i < args.size(); ++i) {
    const absl::string_view arg = args[i];
    if (arg == "--") {
      operands->insert(operands->end(), args.begin() + static_cast<ptrdiff_t>(i) + 1, args.end());
      return absl::OkStatus();
    }
    if (arg == "-" || arg.substr(0, 1) != "-") {
      operands->emplace_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    const absl::string_view written = arg.substr(0, equals);
    const Option* option = written.substr(0, 2) == "--" ? Find(written.substr(2)) : nullptr;
    if (option == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat("there is no option ", written));
    }
    absl::string_view value;
    if (option->value.empty()) {
      if (equals != absl::string_view::npos) {
        return absl::InvalidArgumentError(absl::StrCat(written, " takes no value"));
      }
    } else if (equals != absl::string_view::npos) {
      value = arg.substr(equals + 1);
    } else if (i + 1 < args.size()) {
      value = args[++i];
    } else {
      return absl::InvalidArgumentError(absl::StrCat(written, " needs a value: ", option->value));
    }
    const absl::Status status = option->set(value);
    if (!status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(written, ": ", status.message()));
    }
  }
  return absl::OkStatus();
}

std::string OptionTable::Help() const {
  std::string out;
  for (const Option& option : options_) {
    if (option.set == nullptr) {
      absl::StrAppend(&out, "\n", option.help, ":\n");
      continue;
    }
    std::string left = absl::StrCat("  --", option.name);
    if (!option.value.empty()) absl::StrAppend(&left, " ", option.value);
    if (left.size() + 2 > kHelpIndent) {
      absl::StrAppend(&left, "\n", std::string(kHelpIndent, ' '));
    } else {
      left.resize(kHelpIndent, ' ');
    }
    absl::StrAppend(&out, left, Wrapped(option.help), "\n");
  }
  return out;
}

bool AsksForHelp(absl::Span<const std::string> args) {
  for (const std::string& arg : args) {
    if (arg == "--") return false;
    if (arg == "--help" || arg == "-h") return true;
  }
  return false;
}

}  // namespace sluice
