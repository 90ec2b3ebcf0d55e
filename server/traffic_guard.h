// The last resort against clients that no other limit holds.
//
// gRPC 1.51 reads as fast as a client sends: it keeps what a header block has so far, however long
// that gets (CVE-2023-33953), and calls that are taken back (CVE-2023-44487) until somebody has
// looked at them. What Sluice itself keeps is bounded by limits of its own, so memory far beyond
// what the model takes is the work of whoever sends the most, and that connection is ended. So are
// floods that harm without memory (flood_watch.h).
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>

#include "server/connection_traffic.h"
#include "server/flood_watch.h"
#include "server/log.h"

namespace sluice {

// Bytes of memory that the process holds; 0 if that cannot be read.
int64_t ResidentBytes();

struct MemoryUse {
  int64_t resident = 0;   // of the process now
  int64_t reserved = 0;   // that it will take whatever clients do
  int64_t available = 0;  // that the system, or the control group, could still give
};

// What the process may hold before clients are to blame: its own, and beside it `most_traffic`, or
// three quarters of what would be left if that is less.
int64_t MemoryLimit(const MemoryUse& use, int64_t most_traffic);

// Thread-safe. It looks from a thread of its own: ten times a second at one number, until the
// memory is too much, and once a second at the connections.
class TrafficGuard {
 public:
  TrafficGuard() = default;
  ~TrafficGuard();
  TrafficGuard(const TrafficGuard&) = delete;
  TrafficGuard& operator=(const TrafficGuard&) = delete;

  // From now on ends TCP connections to `port` of this process that FloodWatch names. Once.
  void Start(int port);

  // From now on, while the process holds more than that, also ends the connection that sends
  // fastest, if that is 256 KiB/s or more, at most one in a fifth of a second, and gives freed
  // memory back to the system. Thread-safe.
  void SetMemoryLimit(int64_t bytes) { memory_limit_ = bytes; }

  // Connections that were ended.
  int64_t cut() const { return cut_; }

 private:
  using Clock = std::chrono::steady_clock;
  using Traffic = std::unordered_map<int, ConnectionTraffic>;  // by descriptor

  void Run(int port);
  void Look(int port, Clock::duration since_last);
  void EndFastest(const Traffic& before, Clock::duration since);
  void EndFloods(int port);
  void End(int descriptor, const ConnectionTraffic& traffic, LogFields fields);

  std::atomic<int64_t> cut_{0};
  std::atomic<int64_t> memory_limit_{std::numeric_limits<int64_t>::max()};
  // The thread's.
  Traffic last_;  // empty: no connection was looked at before
  FloodWatch floods_;
  TrafficView view_;
  Clock::time_point trimmed_;            // long ago
  Clock::time_point looked_for_floods_;  // likewise
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice
