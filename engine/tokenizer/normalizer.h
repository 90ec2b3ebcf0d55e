// What is done to a text before it is cut.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/pattern.h"

namespace sluice {

// NFC, Prepend, Replace, and Sequences of them. Immutable.
class Normalizer {
 public:
  // `value` is the file's "normalizer", null included.
  static absl::StatusOr<Normalizer> Parse(const nlohmann::json& value, const std::string& path);

  // ResourceExhausted as Regex::FindAll.
  absl::StatusOr<std::string> Apply(std::string_view text, MatchDeadline deadline) const;

  // Whether Apply gives back every text as it is.
  bool empty() const { return steps_.empty(); }

  // Whether what begins a text also begins the normalized one, never something put before it.
  bool keeps_start() const;

 private:
  enum class Kind { kNfc, kPrepend, kReplace };
  struct Step {
    Kind kind;
    std::string content;  // what is prepended, or takes the place of a match
    Pattern pattern;
  };

  static absl::Status ParseInto(const nlohmann::json& value, const std::string& path,
                                std::vector<Step>* steps);

  std::vector<Step> steps_;
};

}  // namespace sluice
