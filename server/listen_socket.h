// The sockets that a server listens on, where its operator said.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sluice {

// Who may connect to a socket file.
enum class SocketAccess : uint8_t {
  kUmask,  // whom the process's umask lets
  kOwner,  // the user that the process runs as
};

class ListenSocket {
 public:
  // Listens on `address`, the value of the flag `flag`: host:port, [ipv6]:port or unix:path.
  //
  // A host by name is listened to on each of its addresses. Port 0 takes a free one. 0.0.0.0 is all
  // of IPv4, [::] all of IPv6 and of IPv4. A socket file that nobody listens on any more is
  // replaced; what else is at the path stays. Connections inherit the options of TCP that gRPC sets
  // on its own.
  //
  // Unavailable: names the flag and says why the address cannot be had.
  static absl::StatusOr<std::unique_ptr<ListenSocket>> Open(
      const std::string& flag, const std::string& address,
      SocketAccess access = SocketAccess::kUmask);

  // Closes, and removes the socket file.
  ~ListenSocket();
  ListenSocket(const ListenSocket&) = delete;
  ListenSocket& operator=(const ListenSocket&) = delete;

  // As it was given, but with the port that was got, if 0 was asked for.
  const std::string& address() const { return address_; }
  // 0 of a socket file.
  int port() const;
  // Non-blocking; one for each address of the host, at least one.
  const std::vector<int>& descriptors() const { return descriptors_; }

 private:
  ListenSocket() = default;

  std::string address_;
  std::string path_;  // of a socket file, or empty
  std::vector<int> descriptors_;
};

}  // namespace sluice
