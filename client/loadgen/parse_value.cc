#include "client/loadgen/parse_value.h"

#include <cmath>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace sluice {
namespace {

absl::Status NotIn(absl::string_view text, absl::string_view what, absl::string_view low,
                   absl::string_view high) {
  return absl::InvalidArgumentError(
      absl::StrCat("\"", text, "\" is not ", what, " from ", low, " to ", high));
}

}  // namespace

absl::StatusOr<absl::Duration> ParseDurationIn(absl::string_view text, absl::Duration low,
                                               absl::Duration high) {
  absl::Duration duration;
  if (!absl::ParseDuration(text, &duration) || duration < low || duration > high) {
    return NotIn(text, "a duration with a unit (ms, s, m, h)", absl::FormatDuration(low),
                 absl::FormatDuration(high));
  }
  return duration;
}

absl::StatusOr<int64_t> ParseWholeIn(absl::string_view text, int64_t low, int64_t high) {
  int64_t number = 0;
  if (!absl::SimpleAtoi(text, &number) || number < low || number > high) {
    return NotIn(text, "a whole number", absl::StrCat(low), absl::StrCat(high));
  }
  return number;
}

absl::StatusOr<double> ParseNumberIn(absl::string_view text, double low, double high) {
  double number = 0;
  // Written so that NaN is outside.
  if (!absl::SimpleAtod(text, &number) || !(number >= low && number <= high)) {
    return NotIn(text, "a number", absl::StrCat(low), absl::StrCat(high));
  }
  return number;
}

absl::StatusOr<double> ParseShare(absl::string_view text) {
  absl::string_view digits = text;
  const double unit = absl::ConsumeSuffix(&digits, "%") ? 100.0 : 1.0;
  const absl::StatusOr<double> number = ParseNumberIn(digits, 0, unit);
  if (!number.ok()) return NotIn(text, "a share", "0", "1 (or 0% to 100%)");
  return *number / unit;
}

}  // namespace sluice
