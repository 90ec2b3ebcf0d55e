// What TCP connections to this process carry, as the kernel counts it. gRPC tells nobody of its
// connections, so they are found among the descriptors of the process.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

namespace sluice {

struct ConnectionTraffic {
  int64_t received = 0;  // bytes since it was opened
  int64_t sent = 0;      // likewise
  int64_t unread = 0;    // bytes that this process has not read yet
  uint64_t cookie = 0;   // of its socket, never used again, as its descriptor may be
};

// Not thread-safe. Needs no descriptor while it looks: there may be none left.
class TrafficView {
 public:
  TrafficView();

  // By descriptor: the connections to `port` of this process; empty where there is no /proc. About
  // two microseconds a descriptor.
  std::unordered_map<int, ConnectionTraffic> Look(int port);

 private:
  struct Close {
    void operator()(DIR* folder) const { closedir(folder); }
  };
  std::unique_ptr<DIR, Close> descriptors_;
};

// Ends the connection, if the descriptor is still its own.
void EndConnection(int descriptor, const ConnectionTraffic& traffic);

// "127.0.0.1 port 50052", or "unknown".
std::string PeerOf(int descriptor);

}  // namespace sluice
