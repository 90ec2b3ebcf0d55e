#include "server/listen_socket.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "engine/status_macros.h"
#include "server/socket_address.h"

namespace sluice {
namespace {

constexpr int kSocketFlags = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
// As long as gRPC waits for the answer to a ping: what a peer does not acknowledge for this long
// ends its connection.
constexpr int kUserTimeoutMs = 20'000;
// A free port of one address of a host may be taken on another.
constexpr int kPortTries = 10;

struct HostPort {
  std::string host;
  std::string port;
};

HostPort Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return {std::move(host), address.substr(colon + 1)};
}

absl::Status ErrnoStatus() { return absl::UnavailableError(std::strerror(errno)); }

void SetOption(int descriptor, int level, int option, int value) {
  // What fails costs speed or a second start in a row, but no answer.
  (void)setsockopt(descriptor, level, option, &value, sizeof(value));
}

// The status's message is the system's word for what is wrong.
absl::StatusOr<int> ListenOn(const sockaddr* address, socklen_t length,
                             SocketAccess access = SocketAccess::kUmask) {
  const int descriptor = socket(address->sa_family, kSocketFlags, 0);
  if (descriptor < 0) return ErrnoStatus();
  absl::Cleanup closer = [descriptor] { close(descriptor); };
  // On Linux the file that bind makes gets the socket's mode.
  if (access == SocketAccess::kOwner && fchmod(descriptor, S_IRUSR | S_IWUSR) != 0) {
    return ErrnoStatus();
  }
  if (address->sa_family != AF_UNIX) {
    SetOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1);
    SetOption(descriptor, IPPROTO_TCP, TCP_NODELAY, 1);
    SetOption(descriptor, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
  }
  if (address->sa_family == AF_INET6) {
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(address);
    const bool any = IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr);
    SetOption(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, any ? 0 : 1);
  }
  if (bind(descriptor, address, length) != 0 || listen(descriptor, SOMAXCONN) != 0) {
    return ErrnoStatus();
  }
  std::move(closer).Cancel();
  return descriptor;
}

void CloseAll(std::vector<int>* descriptors) {
  for (const int descriptor : *descriptors) close(descriptor);
  descriptors->clear();
}

// Whether a family is missing on this machine, which another address of the host may make good.
bool IsMissingFamily(const absl::Status& status) {
  return status.message() == std::strerror(EAFNOSUPPORT) ||
         status.message() == std::strerror(EADDRNOTAVAIL);
}

// Listens on every address of `list`, on the same port.
absl::Status ListenOnEach(const addrinfo* list, std::vector<int>* descriptors) {
  absl::Status missing;
  int port = 0;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (port != 0 && entry->ai_family == AF_INET6) {
      reinterpret_cast<sockaddr_in6*>(entry->ai_addr)->sin6_port = htons(port);
    } else if (port != 0) {
      reinterpret_cast<sockaddr_in*>(entry->ai_addr)->sin_port = htons(port);
    }
    const absl::StatusOr<int> descriptor = ListenOn(entry->ai_addr, entry->ai_addrlen);
    if (IsMissingFamily(descriptor.status())) {
      missing = descriptor.status();
      continue;
    }
    SLUICE_RETURN_IF_ERROR(descriptor.status());
    descriptors->push_back(*descriptor);
    port = LocalPort(*descriptor);
  }
  return descriptors->empty() ? missing : absl::OkStatus();
}

absl::Status ListenOnHost(const HostPort& where, std::vector<int>* descriptors) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  absl::Status status;
  for (int i = 0; i < kPortTries; ++i) {
    addrinfo* list = nullptr;
    const int error = getaddrinfo(where.host.c_str(), where.port.c_str(), &hints, &list);
    if (error != 0) return absl::UnavailableError(gai_strerror(error));
    status = ListenOnEach(list, descriptors);
    freeaddrinfo(list);
    if (status.ok()) return status;
    CloseAll(descriptors);
    if (where.port != "0" || status.message() != std::strerror(EADDRINUSE)) break;
  }
  return status;
}

// Whether a socket file is there that refuses connections: its server has gone.
bool IsStale(const sockaddr_un& address) {
  struct stat found {};
  if (lstat(address.sun_path, &found) != 0 || !S_ISSOCK(found.st_mode)) return false;
  const int descriptor = socket(AF_UNIX, kSocketFlags, 0);
  if (descriptor < 0) return false;
  const int result =
      connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const bool refused = result != 0 && errno == ECONNREFUSED;
  close(descriptor);
  return refused;
}

absl::Status ListenOnPath(const std::string& path, SocketAccess access,
                          std::vector<int>* descriptors) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return absl::UnavailableError(
        absl::StrCat("a path has 1 to ", sizeof(address.sun_path) - 1, " bytes"));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (IsStale(address)) unlink(path.c_str());
  SLUICE_ASSIGN_OR_RETURN(
      const int descriptor,
      ListenOn(reinterpret_cast<const sockaddr*>(&address), sizeof(address), access));
  descriptors->push_back(descriptor);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ListenSocket>> ListenSocket::Open(const std::string& flag,
                                                                 const std::string& address,
                                                                 SocketAccess access) {
  std::unique_ptr<ListenSocket> result(new ListenSocket);
  absl::string_view rest = address;
  absl::Status status;
  if (absl::ConsumePrefix(&rest, "unix:")) {
    absl::ConsumePrefix(&rest, "//");
    const std::string path(rest);
    status = ListenOnPath(path, access, &result->descriptors_);
    if (status.ok()) result->path_ = path;
    result->address_ = address;
  } else {
    status = ListenOnHost(Split(address), &result->descriptors_);
  }
  if (!status.ok()) {
    return absl::UnavailableError(
        absl::StrCat(flag, "=", address, ": cannot listen there: ", status.message()));
  }
  if (result->address_.empty()) {
    result->address_ = absl::StrCat(address.substr(0, address.rfind(':')), ":", result->port());
  }
  return result;
}

int ListenSocket::port() const { return LocalPort(descriptors_.front()); }

ListenSocket::~ListenSocket() {
  if (!path_.empty()) unlink(path_.c_str());
  CloseAll(&descriptors_);
}

}  // namespace sluice
