// Regular expressions as `tokenizer.json` writes them, in words that PCRE2 takes the same way.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace sluice {

// The files are written for Oniguruma with Ruby's syntax. This gives a pattern that PCRE2 (with UTF
// and UCP) matches alike: `^` and `$` are about lines, `\s`, `\d` and `\p{...}` know the same
// characters. InvalidArgument naming the construct and its byte offset for everything whose meaning
// differs or has not been compared: `\w`, `\b`, back-references, nested sets, ambiguous
// quantifiers.
absl::StatusOr<std::string> TranslateRegex(std::string_view pattern);

}  // namespace sluice
