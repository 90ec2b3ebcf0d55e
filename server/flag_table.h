// Abseil's flags, of which a program takes those that it names, from its command line alone.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace sluice {

// Names as in ABSL_FLAG, with _; on the command line and in texts they are written with -.
using FlagNames = absl::Span<const std::string_view>;

// "max_waiting" becomes "max-waiting".
std::string Dashed(std::string_view name);

// Sets the flag that arguments[*index] gives as --flag=value, --flag value or with _ for -, and
// moves *index past it. InvalidArgument names what is unknown, or lacks a valid value.
absl::Status SetFlag(FlagNames names, const std::vector<std::string>& arguments, size_t* index);

// Each flag, as --flag, with its value, in the order of the names.
std::vector<std::pair<std::string, std::string>> ValuesOf(FlagNames names);

// Each flag with its default and what it is for, in the order of the names.
std::string HelpOf(FlagNames names);

}  // namespace sluice
