// A connection without gRPC on it, for tests to misbehave on.
#pragma once

#include <cstddef>
#include <string>

#include "absl/time/time.h"

namespace sluice {

// Closed when destroyed.
class RawConnection {
 public:
  // To host:port, [ipv6]:port or unix:path, the host in numbers.
  explicit RawConnection(const std::string& address);
  ~RawConnection();
  RawConnection(const RawConnection&) = delete;
  RawConnection& operator=(const RawConnection&) = delete;

  bool connected() const { return connected_; }
  int descriptor() const { return descriptor_; }

  // False once the other side has closed.
  bool Send(const std::string& bytes) const;
  // What has come until the other side closed, or `limit` passed.
  std::string Read(absl::Duration limit) const;
  // Whether the other side closes within `limit`; what comes until then is dropped.
  bool WaitUntilClosed(absl::Duration limit = absl::Seconds(30)) const;
  bool IsOpen() const { return !WaitUntilClosed(absl::ZeroDuration()); }

 private:
  bool ReadUntilClosed(absl::Duration limit, std::string* bytes) const;

  int descriptor_ = -1;
  bool connected_ = false;
};

}  // namespace sluice
