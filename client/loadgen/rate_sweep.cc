#include "client/loadgen/rate_sweep.h"

#include <algorithm>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "client/loadgen/parse_value.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr char kSchema[] = "sluice-loadgen-sweep/1";
constexpr double kMinRate = 0.001;
constexpr double kMaxRate = 1e6;

std::vector<const SweepPoint*> Ascending(const std::vector<SweepPoint>& points) {
  std::vector<const SweepPoint*> sorted;
  sorted.reserve(points.size());
  for (const SweepPoint& point : points) sorted.push_back(&point);
  std::sort(sorted.begin(), sorted.end(),
            [](const SweepPoint* a, const SweepPoint* b) { return a->rate < b->rate; });
  return sorted;
}

LoadSetting SettingOf(const LoadSetting& setting, const SweepPoint& point) {
  LoadSetting own = setting;
  own.load.rate = point.rate;
  return own;
}

std::string Ms(const LatencyHistogram& histogram, double percent) {
  if (histogram.count() == 0) return "-";
  return DurationText(static_cast<double>(histogram.Percentile(percent)));
}

}  // namespace

absl::StatusOr<std::vector<double>> ParseRates(absl::string_view text) {
  std::vector<double> rates;
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    SLUICE_ASSIGN_OR_RETURN(const double rate, ParseNumberIn(item, kMinRate, kMaxRate));
    rates.push_back(rate);
  }
  std::sort(rates.begin(), rates.end());
  return rates;
}

double ServedShare(const LoadTotals& totals) {
  if (totals.window_due == 0) return 1;
  return static_cast<double>(totals.window_served) / static_cast<double>(totals.window_due);
}

std::string FindProblem(const LoadTotals& totals, const SweepOptions& options) {
  const auto not_sent = totals.errors_by_name.find("NOT_SENT");
  if (not_sent != totals.errors_by_name.end()) {
    return absl::StrCat(not_sent->second.count, " not sent");
  }
  if (ServedShare(totals) < options.served_share) {
    return absl::StrFormat("%.1f %% served in time", 100 * ServedShare(totals));
  }
  if (totals.plain > 0 && GoodShare(totals) < options.good_share) {
    return absl::StrFormat("%.1f %% met the objective", 100 * GoodShare(totals));
  }
  return "";
}

std::optional<double> NextRate(const std::vector<SweepPoint>& points, const SweepOptions& options) {
  if (!options.rates.empty()) {
    if (points.size() == options.rates.size()) return std::nullopt;
    return options.rates[points.size()];
  }
  if (points.empty()) return options.start;
  if (static_cast<int64_t>(points.size()) >= options.max_points) return std::nullopt;
  const SweepPoint* good = FindKnee(points);
  const SweepPoint* bad = nullptr;
  for (const SweepPoint* point : Ascending(points)) {
    if (bad == nullptr && !point->problem.empty()) bad = point;
  }
  std::optional<double> next;
  if (bad == nullptr) {
    next = 2 * good->rate;
  } else if (good == nullptr) {
    next = bad->rate / 2;
  } else if (bad->rate - good->rate > options.precision * good->rate) {
    next = (bad->rate + good->rate) / 2;
  }
  if (next.has_value() && (*next < kMinRate || *next > kMaxRate)) return std::nullopt;
  return next;
}

const SweepPoint* FindKnee(const std::vector<SweepPoint>& points) {
  const SweepPoint* knee = nullptr;
  for (const SweepPoint* point : Ascending(points)) {
    if (!point->problem.empty()) break;
    knee = point;
  }
  return knee;
}

void PrintSweep(const LoadSetting& setting, const SweepOptions& options,
                const std::vector<SweepPoint>& points, std::ostream& out) {
  out << absl::StrFormat("%9s%11s%11s%10s%10s%10s%10s%10s%10s  %s\n", "rate/s", "served/s",
                         "goodput/s", "tokens/s", "TTFT p50", "TTFT p99", "ITL p50", "ITL p99",
                         "e2e p99", "");
  for (const SweepPoint* point : Ascending(points)) {
    const LoadTotals& totals = point->result.totals;
    out << absl::StrFormat(
        "%9.4g%11.1f%11.1f%10.0f%10s%10s%10s%10s%10s  %s\n", point->rate,
        PerSecond(point->result, totals.window_served), PerSecond(point->result, totals.good),
        PerSecond(point->result, totals.window_output_tokens), Ms(totals.first_token, 50),
        Ms(totals.first_token, 99), Ms(totals.inter_token, 50), Ms(totals.inter_token, 99),
        Ms(totals.end_to_end, 99), point->problem);
  }
  const SweepPoint* knee = FindKnee(points);
  out << (knee == nullptr ? std::string("knee: none, the lowest rate is not sustained")
                          : absl::StrFormat("knee: %g requests/s", knee->rate))
      << absl::StrFormat(" (>= %g %% served in time, >= %g %% within %s)\n",
                         100 * options.served_share, 100 * options.good_share,
                         ToText(setting.load.objective));
}

nlohmann::ordered_json SweepJson(const LoadSetting& setting, const SweepOptions& options,
                                 const std::vector<SweepPoint>& points) {
  nlohmann::ordered_json json;
  json["schema"] = kSchema;
  json["version"] = SLUICE_VERSION;
  json["objective"] = ToText(setting.load.objective);
  json["served_share"] = options.served_share;
  json["good_share"] = options.good_share;
  const SweepPoint* knee = FindKnee(points);
  json["knee"] = knee == nullptr ? nlohmann::ordered_json() : nlohmann::ordered_json(knee->rate);
  json["points"] = nlohmann::ordered_json::array();
  for (const SweepPoint* point : Ascending(points)) {
    nlohmann::ordered_json entry;
    entry["rate"] = point->rate;
    entry["sustained"] = point->problem.empty();
    entry["problem"] = point->problem;
    entry["report"] = ReportJson(SettingOf(setting, *point), point->result);
    json["points"].push_back(std::move(entry));
  }
  return json;
}

}  // namespace sluice
