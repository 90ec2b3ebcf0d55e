// The "pattern" of a Replace or a Split.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/regex.h"

namespace sluice {

// Either a string, matched as it is, or a regular expression.
class Pattern {
 public:
  // Reads {"String": "..."} or {"Regex": "..."}. InvalidArgument when it is neither, or empty.
  static absl::StatusOr<Pattern> Parse(const nlohmann::json& value, const std::string& path);

  static absl::StatusOr<Pattern> FromRegex(std::string_view regex);

  // As Regex::FindAll.
  absl::Status FindAll(std::string_view text, MatchDeadline deadline,
                       std::vector<TextRange>* matches) const;

  // The string that is matched as it is; none for a regular expression.
  const std::optional<std::string>& literal() const { return literal_; }

 private:
  std::optional<std::string> literal_;
  Regex regex_;
};

}  // namespace sluice
