// Counts what the requests of one worker do.
#pragma once

#include <cstdint>
#include <limits>
#include <mutex>

#include "client/loadgen/load_totals.h"
#include "client/loadgen/objective.h"
#include "client/loadgen/request_record.h"

namespace sluice {

// Times of the steady clock, in nanoseconds.
struct LoadWindow {
  int64_t start_ns = 0;  // of the run
  int64_t begin_ns = 0;  // of the measured phase
  int64_t end_ns = std::numeric_limits<int64_t>::max();
};

// Thread-safe.
class LoadStats {
 public:
  LoadStats(const LoadWindow& window, const Objective& objective)
      : window_(window), objective_(objective) {}

  // A request was due at record.due_ns.
  void OnDue(const RequestRecord& record);
  // A message with `tokens` of them came; `gap_ns` after the one before it, -1 if it is the first.
  void OnTokens(const RequestRecord& record, int64_t now_ns, int64_t tokens, int64_t gap_ns);
  // It is over; the record is complete.
  void OnEnd(const RequestRecord& record);

  LoadTotals Copy() const;

 private:
  bool InWindow(int64_t ns) const { return ns >= window_.begin_ns && ns < window_.end_ns; }
  SecondCounts& Second(int64_t ns);
  void CountEnd(const RequestRecord& record);
  void CountPromptTokens(const RequestRecord& record);

  const LoadWindow window_;
  const Objective objective_;
  mutable std::mutex mutex_;
  LoadTotals totals_;  // guarded by mutex_
};

}  // namespace sluice
