#include "server/socket_cookie.h"

#include <sys/socket.h>

namespace sluice {

uint64_t SocketCookie(int descriptor) {
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  return getsockopt(descriptor, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

}  // namespace sluice
