// Finds stop strings in a text that comes in pieces.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

// What is let through depends on the text alone, not on the pieces it comes in: the stop string
// that is complete first ends it, the longest of those that are complete at the same byte.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Takes the next piece and returns what cannot belong to a stop string any more. Once one is
  // found, matched() is set and nothing more is let through.
  std::string Push(std::string_view piece);
  // The held-back text, when nothing more comes.
  std::string Flush();

  const std::optional<std::string>& matched() const { return matched_; }

 private:
  size_t HoldBack() const;

  std::vector<std::string> stops_;
  std::string held_;  // shorter than the longest stop string, between calls
  std::optional<std::string> matched_;
};

}  // namespace sluice
