#include "server/connection_traffic.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/socket_address.h"
#include "server/socket_cookie.h"

namespace sluice {
namespace {

int64_t UnreadBytes(int descriptor) {
  int bytes = 0;
  return ioctl(descriptor, FIONREAD, &bytes) == 0 ? bytes : 0;
}

// None if the descriptor is something else than a connection to `port`.
std::optional<ConnectionTraffic> TrafficOf(int descriptor, int port) {
  if (LocalPort(descriptor) != port) return std::nullopt;
  tcp_info info{};
  socklen_t size = sizeof(info);
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
      size < offsetof(tcp_info, tcpi_bytes_sent) + sizeof(info.tcpi_bytes_sent)) {
    return std::nullopt;
  }
  return ConnectionTraffic{.received = static_cast<int64_t>(info.tcpi_bytes_received),
                           .sent = static_cast<int64_t>(info.tcpi_bytes_sent),
                           .unread = UnreadBytes(descriptor),
                           .cookie = SocketCookie(descriptor)};
}

}  // namespace

TrafficView::TrafficView() : descriptors_(opendir("/proc/self/fd")) {}

std::unordered_map<int, ConnectionTraffic> TrafficView::Look(int port) {
  std::unordered_map<int, ConnectionTraffic> found;
  if (descriptors_ == nullptr) return found;
  rewinddir(descriptors_.get());
  while (const dirent* const entry = readdir(descriptors_.get())) {
    int descriptor = -1;
    if (!absl::SimpleAtoi(entry->d_name, &descriptor)) continue;
    const std::optional<ConnectionTraffic> traffic = TrafficOf(descriptor, port);
    if (traffic.has_value()) found.emplace(descriptor, *traffic);
  }
  return found;
}

void EndConnection(int descriptor, const ConnectionTraffic& traffic) {
  if (SocketCookie(descriptor) != traffic.cookie) return;
  // Its owner, who now finds its end, resets it by closing it. Without this, a peer that waits for
  // room to send more would wait for minutes.
  const linger at_once = {.l_onoff = 1, .l_linger = 0};
  (void)setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
  (void)shutdown(descriptor, SHUT_RDWR);
}

std::string PeerOf(int descriptor) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return "unknown";
  const void* const bytes =
      address.ss_family == AF_INET
          ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(&address)->sin_addr)
          : &reinterpret_cast<const sockaddr_in6*>(&address)->sin6_addr;
  if (inet_ntop(address.ss_family, bytes, text.data(), text.size()) == nullptr) return "unknown";
  return absl::StrCat(text.data(), " port ", PortOf(address));
}

}  // namespace sluice
