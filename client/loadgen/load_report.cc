#include "client/loadgen/load_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/loadgen/monotonic_clock.h"

namespace sluice {

double WindowSeconds(const LoadResult& result) {
  return std::max(ToSeconds(result.window.end_ns - result.window.begin_ns), 0.0);
}

double PerSecond(const LoadResult& result, int64_t count) {
  const double seconds = WindowSeconds(result);
  return seconds > 0 ? static_cast<double>(count) / seconds : 0;
}

double GoodShare(const LoadTotals& totals) {
  if (totals.plain == 0) return 0;
  return static_cast<double>(totals.good) / static_cast<double>(totals.plain);
}

std::string DescribeLoop(const LoadOptions& options) {
  if (options.rate > 0) {
    const bool poisson = options.arrivals == ArrivalProcess::kPoisson;
    return absl::StrFormat("open loop, %g requests/s (%s)", options.rate,
                           poisson ? "Poisson" : "constant");
  }
  std::string text = absl::StrCat("closed loop, ", options.users, " users");
  if (options.think_time > absl::ZeroDuration()) {
    absl::StrAppend(&text, ", think time ", absl::FormatDuration(options.think_time),
                    options.exponential_think ? " (exponential)" : "");
  }
  return text;
}

std::string DurationText(double ns) {
  double value = ns * 1e-6;
  const char* unit = "ms";
  if (value >= 1000) {
    value *= 1e-3;
    unit = "s";
  }
  const int decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  return absl::StrFormat("%.*f %s", decimals, value, unit);
}

}  // namespace sluice
