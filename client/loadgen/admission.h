// Which requests a load may send, and which of them are measured.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

#include "client/loadgen/load_stats.h"

namespace sluice {

struct Ticket {
  uint64_t index = 0;
  bool measured = false;
  bool in_flight = false;  // else there are too many already, and it is not to be sent
};

// Thread-safe.
class Admission {
 public:
  // `requests`: how many are measured at most; 0: no limit but the window's end.
  Admission(const LoadWindow& window, int64_t requests, int64_t max_in_flight)
      : window_(window), requests_(requests), max_in_flight_(max_in_flight) {}

  // For a request that is due then. Unset once the measured phase is over. One that is in flight
  // has to Leave.
  std::optional<Ticket> Admit(int64_t due_ns);
  void Leave();

  // Nothing more is admitted; the waits return.
  void Close();

  // Until the measured phase is over: its end has come, or as many as wanted were admitted.
  void AwaitClosed();
  // Until then, or until it is closed. False if it was closed.
  bool SleepUntil(int64_t ns);
  // Until none is in flight, and closes then, or until this time has come. True if none is.
  bool CloseWhenIdle(int64_t until_ns);

  int64_t in_flight() const;

 private:
  bool ClosedLocked(int64_t ns) const;

  const LoadWindow window_;
  const int64_t requests_;
  const int64_t max_in_flight_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t next_index_ = 0;  // all guarded by mutex_
  int64_t measured_ = 0;
  int64_t in_flight_ = 0;
  bool closed_ = false;
};

}  // namespace sluice
