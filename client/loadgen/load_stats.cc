#include "client/loadgen/load_stats.h"

#include <algorithm>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

// A run of a week; what comes later counts into the last second.
constexpr int64_t kMaxSeconds = int64_t{7} * 24 * 3600;

}  // namespace

SecondCounts& LoadStats::Second(int64_t ns) {
  const int64_t second = (ns - window_.start_ns) / kNsPerSecond;
  const auto at = static_cast<size_t>(std::clamp<int64_t>(second, 0, kMaxSeconds - 1));
  if (at >= totals_.seconds.size()) totals_.seconds.resize(at + 1);
  return totals_.seconds[at];
}

void LoadStats::OnDue(const RequestRecord& record) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++Second(record.due_ns).due;
  if (InWindow(record.due_ns)) ++totals_.window_due;
  if (record.measured) ++totals_.due;
}

void LoadStats::OnTokens(const RequestRecord& record, int64_t now_ns, int64_t tokens,
                         int64_t gap_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Second(now_ns).output_tokens += tokens;
  if (InWindow(now_ns)) {
    totals_.window_output_tokens += tokens;
    ++totals_.window_messages;
  }
  if (!record.measured) return;
  if (gap_ns < 0) {
    totals_.first_token.Record(now_ns - record.due_ns);
  } else if (record.kind != LoadKind::kSlow) {
    totals_.inter_token.Record(gap_ns / tokens, tokens);
    totals_.message_gap.Record(gap_ns);
  }
}

// A prompt has been read when its first token comes.
void LoadStats::CountPromptTokens(const RequestRecord& record) {
  if (record.first_token_ns != 0 && InWindow(record.first_token_ns)) {
    totals_.window_prompt_tokens += record.prompt_tokens;
  }
}

void LoadStats::OnEnd(const RequestRecord& record) {
  const std::lock_guard<std::mutex> lock(mutex_);
  CountPromptTokens(record);
  if (record.end == RequestEnd::kAnswered) {
    ++Second(record.end_ns).answered;
    if (InWindow(record.end_ns)) ++totals_.window_answered;
  }
  if (record.end == RequestEnd::kError) {
    ++Second(record.end_ns).errors;
  } else if (record.end != RequestEnd::kInterrupted && InWindow(record.end_ns)) {
    ++totals_.window_served;
  }
  if (!record.measured) return;
  totals_.last_end_ns = std::max(totals_.last_end_ns, record.end_ns);
  if (record.sent_ns != 0) totals_.send_delay.Record(record.sent_ns - record.due_ns);
  CountEnd(record);
}

void LoadStats::CountEnd(const RequestRecord& record) {
  switch (record.end) {
    case RequestEnd::kAnswered:
      ++totals_.answered;
      break;
    case RequestEnd::kCancelled:
      ++totals_.cancelled;
      break;
    case RequestEnd::kRefused:
      ++totals_.refused;
      break;
    case RequestEnd::kInterrupted:
      ++totals_.interrupted;
      break;
    case RequestEnd::kError: {
      ++totals_.errors;
      ErrorCount& error = totals_.errors_by_name[record.error];
      if (error.count++ == 0) error.message = record.message;
      break;
    }
  }
  if (record.kind != LoadKind::kPlain || record.end == RequestEnd::kInterrupted) return;
  ++totals_.plain;
  if (Meets(record, objective_)) ++totals_.good;
  if (record.end == RequestEnd::kAnswered) {
    totals_.end_to_end.Record(record.end_ns - record.due_ns);
  }
}

LoadTotals LoadStats::Copy() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return totals_;
}

}  // namespace sluice
