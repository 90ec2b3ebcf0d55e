// The values of options: durations, shares, rates, whole numbers, each within a range.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace sluice {

// Each returns InvalidArgument that quotes the text and names the range.

// "200ms", "1.5s", "2m"; both ends are included.
absl::StatusOr<absl::Duration> ParseDurationIn(absl::string_view text, absl::Duration low,
                                               absl::Duration high);

absl::StatusOr<int64_t> ParseWholeIn(absl::string_view text, int64_t low, int64_t high);

absl::StatusOr<double> ParseNumberIn(absl::string_view text, double low, double high);

// "0.3" or "30%", in [0, 1].
absl::StatusOr<double> ParseShare(absl::string_view text);

}  // namespace sluice
