#include "server/connection_table.h"

#include <iterator>

#include "kernels/check.h"
#include "server/socket_cookie.h"

namespace sluice {

void ConnectionTable::Add(int descriptor) {
  const uint64_t cookie = SocketCookie(descriptor);
  SLUICE_CHECK(cookie != 0);
  cookies_[descriptor] = cookie;
}

void ConnectionTable::Sweep() {
  for (auto at = cookies_.begin(); at != cookies_.end();) {
    at = SocketCookie(at->first) == at->second ? std::next(at) : cookies_.erase(at);
  }
}

}  // namespace sluice
