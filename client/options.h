// The command line of one subcommand: a table of options, read by one parser, printed by one help.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace sluice {

// Options are written --name VALUE or --name=VALUE, flags --name. `--` ends them, `-` alone is an
// operand. The targets outlive the table. Not thread-safe.
class OptionTable {
 public:
  // A line of its own in the help, above the options that are added after it.
  void Section(absl::string_view title);

  void Flag(absl::string_view name, bool* target, absl::string_view help);
  void Text(absl::string_view name, absl::string_view value, std::string* target,
            absl::string_view help);
  void Number(absl::string_view name, absl::string_view value, std::optional<float>* target,
              absl::string_view help);
  void Number(absl::string_view name, absl::string_view value, std::optional<double>* target,
              absl::string_view help);
  void Integer(absl::string_view name, absl::string_view value, std::optional<int64_t>* target,
               absl::string_view help);
  // `set` is called once for each time that the option is given; its message is put behind the
  // option's name.
  void Custom(absl::string_view name, absl::string_view value,
              std::function<absl::Status(absl::string_view)> set, absl::string_view help);

  // Sets the targets and appends what is no option to `operands`. InvalidArgument names the option
  // that is unknown, lacks its value, or has one that cannot be read; the last of an option wins.
  absl::Status Parse(absl::Span<const std::string> args, std::vector<std::string>* operands) const;

  // The options, one a line or more, wrapped to 80 columns.
  std::string Help() const;

 private:
  struct Option {
    std::string name;   // empty: a section
    std::string value;  // empty: a flag
    std::string help;
    std::function<absl::Status(absl::string_view)> set;
  };

  const Option* Find(absl::string_view name) const;

  std::vector<Option> options_;
};

// Whether --help or -h is among the options, which wins over whatever else is wrong.
bool AsksForHelp(absl::Span<const std::string> args);

}  // namespace sluice
