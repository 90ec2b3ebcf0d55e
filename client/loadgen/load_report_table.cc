#include <ostream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/loadgen/load_report.h"
#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

void PrintLatency(const char* name, const LatencyHistogram& histogram, std::ostream& out) {
  out << absl::StrFormat("%-22s", name);
  if (histogram.count() == 0) {
    out << "         -\n";
    return;
  }
  for (const double percent : {50.0, 90.0, 99.0}) {
    out << absl::StrFormat("%10s",
                           DurationText(static_cast<double>(histogram.Percentile(percent))));
  }
  out << absl::StrFormat("%10s%10s%10d\n", DurationText(static_cast<double>(histogram.max_ns())),
                         DurationText(histogram.mean_ns()), histogram.count());
}

void PrintCounts(const LoadTotals& totals, std::ostream& out) {
  out << absl::StrFormat("requests    %d measured: %d answered", totals.due, totals.answered);
  if (totals.cancelled > 0) out << ", " << totals.cancelled << " cancelled as intended";
  if (totals.refused > 0) out << ", " << totals.refused << " refused as intended";
  if (totals.interrupted > 0) out << ", " << totals.interrupted << " interrupted";
  out << ", " << totals.errors << " errors\n";
  for (const auto& [name, error] : totals.errors_by_name) {
    out << "            " << name << " " << error.count << ", the first: " << error.message << "\n";
  }
}

}  // namespace

void PrintReport(const LoadSetting& setting, const LoadResult& result, std::ostream& out) {
  const LoadTotals& totals = result.totals;
  out << "server      " << setting.address << ": " << setting.model.name() << " on "
      << setting.model.device() << ", sluice-server " << setting.model.server_version() << "\n";
  out << absl::StrFormat("load        %s; %.3g s measured after %.3g s of warm-up%s\n",
                         DescribeLoop(setting.load), WindowSeconds(result),
                         ToSeconds(result.window.begin_ns - result.window.start_ns),
                         result.interrupted ? "; interrupted" : "");
  PrintCounts(totals, out);
  out << absl::StrFormat(
      "throughput  %.1f requests/s answered of %.1f due, %.0f tokens/s out, %.0f tokens/s in\n",
      PerSecond(result, totals.window_answered), PerSecond(result, totals.window_due),
      PerSecond(result, totals.window_output_tokens),
      PerSecond(result, totals.window_prompt_tokens));
  const std::string objective = ToText(setting.load.objective);
  if (!objective.empty()) {
    out << absl::StrFormat("goodput     %.1f requests/s, %.1f %% of %d plain requests: %s\n",
                           PerSecond(result, totals.good), 100 * GoodShare(totals), totals.plain,
                           objective);
  }
  out << absl::StrFormat("\n%-22s%10s%10s%10s%10s%10s%10s\n", "latency", "p50", "p90", "p99", "max",
                         "mean", "count");
  PrintLatency("time to first token", totals.first_token, out);
  PrintLatency("inter-token", totals.inter_token, out);
  PrintLatency("gap between messages", totals.message_gap, out);
  PrintLatency("end to end", totals.end_to_end, out);
  PrintLatency("sent late by", totals.send_delay, out);
  const double seconds = WindowSeconds(result);
  out << absl::StrFormat("\nload generator: %.1f %% of a core\n",
                         seconds > 0 ? 100 * result.cpu_seconds / seconds : 0.0);
}

}  // namespace sluice
