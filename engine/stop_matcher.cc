#include "engine/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace sluice {

std::string StopMatcher::Push(std::string_view piece) {
  if (matched_.has_value()) return "";
  held_.append(piece);
  size_t first_end = std::string::npos;
  size_t start = 0;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t end = at + stop.size();
    if (first_end != std::string::npos && (end > first_end || (end == first_end && at >= start))) {
      continue;
    }
    first_end = end;
    start = at;
    matched_ = stop;
  }
  const size_t keep_from = matched_.has_value() ? start : held_.size() - HoldBack();
  std::string passed = held_.substr(0, keep_from);
  held_ = matched_.has_value() ? "" : held_.substr(keep_from);
  return passed;
}

std::string StopMatcher::Flush() { return std::exchange(held_, ""); }

// Length of the longest end of `held_` that begins a stop string.
size_t StopMatcher::HoldBack() const {
  size_t longest = 0;
  const std::string_view held = held_;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held.size()); n > longest; --n) {
      if (held.substr(held.size() - n) == std::string_view(stop).substr(0, n)) {
        longest = n;
        break;
      }
    }
  }
  return longest;
}

}  // namespace sluice
