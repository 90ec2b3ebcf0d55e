#include "client/loadgen/progress_line.h"

#include <algorithm>
#include <limits>
#include <ostream>

#include "absl/strings/str_format.h"
#include "client/loadgen/load_report.h"
#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

constexpr absl::Duration kOnTerminal = absl::Milliseconds(200);
constexpr absl::Duration kInALog = absl::Seconds(1);

std::string PhaseText(const LoadWindow& window, int64_t now_ns) {
  const double since = ToSeconds(now_ns - window.begin_ns);
  if (since < 0) {
    return absl::StrFormat("warm-up %.0f/%.0f s", ToSeconds(now_ns - window.start_ns),
                           ToSeconds(window.begin_ns - window.start_ns));
  }
  if (window.end_ns == std::numeric_limits<int64_t>::max()) {
    return absl::StrFormat("measured %.0f s", since);
  }
  if (now_ns >= window.end_ns) return "drain";
  return absl::StrFormat("measured %.0f/%.0f s", since, ToSeconds(window.end_ns - window.begin_ns));
}

// Of the last whole second.
int64_t TokensPerSecond(const LoadProgress& progress, int64_t now_ns) {
  const int64_t second = (now_ns - progress.window.start_ns) / kNsPerSecond - 1;
  const std::vector<SecondCounts>& seconds = progress.totals.seconds;
  if (second < 0 || second >= static_cast<int64_t>(seconds.size())) return 0;
  return seconds[static_cast<size_t>(second)].output_tokens;
}

}  // namespace

std::string ProgressText(const LoadProgress& progress, int64_t now_ns) {
  const LoadTotals& totals = progress.totals;
  std::string text =
      absl::StrFormat("%s | in flight %d | measured %d, answered %d, errors %d | %d tokens/s",
                      PhaseText(progress.window, now_ns), progress.in_flight, totals.due,
                      totals.answered, totals.errors, TokensPerSecond(progress, now_ns));
  if (totals.first_token.count() > 0) {
    absl::StrAppendFormat(&text, " | TTFT p99 %s",
                          DurationText(static_cast<double>(totals.first_token.Percentile(99))));
  }
  return text;
}

ProgressLine::ProgressLine(const LoadRun* run, bool terminal, std::ostream* out)
    : run_(run), terminal_(terminal), out_(out), thread_([this] { Run(); }) {}

ProgressLine::~ProgressLine() {
  over_.Notify();
  thread_.join();
}

void ProgressLine::Run() {
  while (!over_.WaitForNotificationWithTimeout(terminal_ ? kOnTerminal : kInALog)) {
    const std::string text = ProgressText(run_->Progress(), MonotonicNs());
    if (terminal_) {
      *out_ << "\r" << text << "\x1b[K" << std::flush;
    } else {
      *out_ << text << "\n" << std::flush;
    }
  }
  if (terminal_) *out_ << "\r\x1b[K" << std::flush;
}

}  // namespace sluice
