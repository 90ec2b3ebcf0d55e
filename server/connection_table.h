// Counts connections that another part of the process closes without saying so.
//
// gRPC owns a connection's descriptor and tells nobody when it closes it. But a socket has a cookie
// of its own: a descriptor that refers to another one by now, or to none, has been closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace sluice {

// Not thread-safe.
class ConnectionTable {
 public:
  // Notes an open socket. A descriptor that was noted before has been closed in between.
  void Add(int descriptor);

  // Forgets what has been closed: one system call an entry, about a microsecond each.
  void Sweep();

  // Open sockets as of the last Sweep, and those added since.
  size_t size() const { return cookies_.size(); }

 private:
  std::unordered_map<int, uint64_t> cookies_;  // by descriptor
};

}  // namespace sluice
