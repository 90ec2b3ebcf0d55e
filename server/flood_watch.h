// Tells which connections send to no purpose.
//
// Two floods harm gRPC 1.51 without filling the memory. A header that never ends is parsed from its
// beginning with each frame: it takes a core, and may hold up calls of others that the same thread
// was about to begin. And once a socket has given 2 GiB without ever being found empty, a size
// overflows and gRPC ends the process. Neither is sent anything, however much of it comes.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/connection_traffic.h"

namespace sluice {

// Not thread-safe. Bytes and looks are counted and not timed, so that a clock that is set, or a
// process that was stopped for a while, cuts nobody off.
class FloodWatch {
 public:
  // Bytes that may come before anything is sent back.
  static constexpr int64_t kMostUnanswered = int64_t{64} << 20;
  // Or so many, if more has come at so many looks since. A second lies between two looks; while a
  // message comes, gRPC pings (its bandwidth estimate) or makes room. Who only waits is left alone.
  static constexpr int64_t kLongUnanswered = int64_t{1} << 20;
  static constexpr int kLooksUnanswered = 15;
  // What may come while there is always more to read.
  static constexpr int64_t kMostAtOnce = int64_t{1} << 30;

  struct Verdict {
    int descriptor;
    ConnectionTraffic traffic;
    std::string reason;  // "unanswered" or "endless"
  };

  // `connections`: all there are. Those to end.
  std::vector<Verdict> Look(const std::unordered_map<int, ConnectionTraffic>& connections);

 private:
  struct Seen {
    ConnectionTraffic begin;     // when there was last nothing to be read
    ConnectionTraffic answered;  // when something was last sent to it
    int64_t received = 0;        // at the last look
    int looks = 0;               // at which more had come, beyond kLongUnanswered after that
  };

  std::unordered_map<int, Seen> seen_;  // by descriptor
};

}  // namespace sluice
