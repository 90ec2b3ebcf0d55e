// Accepts connections for gRPC, whose own acceptor knows no limit, and which gives a port up for
// good once the process is out of file descriptors.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "server/connection_table.h"

namespace sluice {

struct ConnectionCounts {
  int64_t open = 0;
  int64_t refused_by_limit = 0;
  int64_t refused_by_descriptors = 0;  // the process or the system had no descriptor left
  int64_t cut = 0;                     // by the TrafficGuard; the acceptor knows of none
};

// Thread-safe. One thread accepts, and hands over what it accepted; all hand-overs are its own.
// What is over the limit is closed at once, as is what comes while there are no file descriptors:
// one is kept in reserve for that. What is refused is logged once a second at most.
class ConnectionAcceptor {
 public:
  // Takes over a connected, non-blocking socket, and closes it some day.
  using HandOver = std::function<void(int listener, int descriptor)>;

  // `listeners` are non-blocking sockets that listen, and outlive the acceptor.
  ConnectionAcceptor(std::vector<int> listeners, int32_t max_connections, HandOver hand_over);
  ~ConnectionAcceptor() { Stop(); }
  ConnectionAcceptor(const ConnectionAcceptor&) = delete;
  ConnectionAcceptor& operator=(const ConnectionAcceptor&) = delete;

  // Accepts no more. Blocks until the last hand-over is over.
  void Stop();

  // As of now, or of so little ago that looking at all connections takes a twentieth of the time.
  ConnectionCounts Counts();

 private:
  using Clock = std::chrono::steady_clock;
  enum class Next { kAccept, kWait, kBackOff };

  void Run();
  bool WaitFor(const std::vector<int>& descriptors, int timeout_ms);
  Next AcceptSome(int listener);
  Next AcceptOne(int listener);
  Next OnError(int listener, int error);
  bool TakeRoom(int descriptor);
  void SweepIfDue();
  void RefuseWithReserve(int listener);
  void LogRefusal(const char* reason, int64_t count);

  const std::vector<int> listeners_;
  const int32_t max_connections_;
  const HandOver hand_over_;
  int wake_ = -1;             // readable once the acceptor is to stop
  int reserve_ = -1;          // the accepting thread's
  Clock::time_point logged_;  // likewise; long ago

  std::atomic<int64_t> refused_by_limit_{0};
  std::atomic<int64_t> refused_by_descriptors_{0};
  std::mutex mutex_;
  ConnectionTable open_;          // guarded by mutex_
  Clock::time_point next_sweep_;  // likewise; long ago
  std::thread thread_;
};

}  // namespace sluice
