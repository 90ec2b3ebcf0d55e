#include "tests/server/raw_connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "absl/time/clock.h"
#include "kernels/check.h"

namespace sluice {
namespace {

socklen_t Parse(const std::string& address, sockaddr_storage* storage) {
  if (address.rfind("unix:", 0) == 0) {
    auto* path = reinterpret_cast<sockaddr_un*>(storage);
    path->sun_family = AF_UNIX;
    address.copy(path->sun_path, sizeof(path->sun_path) - 1, 5);
    return sizeof(*path);
  }
  const size_t colon = address.rfind(':');
  const auto port = htons(static_cast<uint16_t>(std::atoi(address.c_str() + colon + 1)));
  if (address[0] == '[') {
    auto* in6 = reinterpret_cast<sockaddr_in6*>(storage);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = port;
    SLUICE_CHECK(inet_pton(AF_INET6, address.substr(1, colon - 2).c_str(), &in6->sin6_addr) == 1);
    return sizeof(*in6);
  }
  auto* in = reinterpret_cast<sockaddr_in*>(storage);
  in->sin_family = AF_INET;
  in->sin_port = port;
  SLUICE_CHECK(inet_pton(AF_INET, address.substr(0, colon).c_str(), &in->sin_addr) == 1);
  return sizeof(*in);
}

}  // namespace

RawConnection::RawConnection(const std::string& address) {
  sockaddr_storage storage{};
  const socklen_t length = Parse(address, &storage);
  descriptor_ = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SLUICE_CHECK(descriptor_ >= 0);
  connected_ = connect(descriptor_, reinterpret_cast<const sockaddr*>(&storage), length) == 0;
}

RawConnection::~RawConnection() { close(descriptor_); }

bool RawConnection::Send(const std::string& bytes) const {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t count = send(descriptor_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<size_t>(count);
  }
  return true;
}

std::string RawConnection::Read(absl::Duration limit) const {
  std::string bytes;
  ReadUntilClosed(limit, &bytes);
  return bytes;
}

bool RawConnection::WaitUntilClosed(absl::Duration limit) const {
  std::string bytes;
  return ReadUntilClosed(limit, &bytes);
}

bool RawConnection::ReadUntilClosed(absl::Duration limit, std::string* bytes) const {
  const absl::Time deadline = absl::Now() + limit;
  std::array<char, 4096> buffer{};
  while (true) {
    const absl::Duration left = std::max(deadline - absl::Now(), absl::ZeroDuration());
    pollfd watched = {descriptor_, POLLIN, 0};
    if (poll(&watched, 1, static_cast<int>(absl::ToInt64Milliseconds(left))) == 0) return false;
    const ssize_t count = recv(descriptor_, buffer.data(), buffer.size(), 0);
    if (count <= 0) return true;
    bytes->append(buffer.data(), static_cast<size_t>(count));
  }
}

}  // namespace sluice
