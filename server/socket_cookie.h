// Tells sockets apart whose descriptor is used again.
#pragma once

#include <cstdint>

namespace sluice {

// What the kernel calls this socket and never another one; 0 if the descriptor is closed, or is no
// socket. About half a microsecond.
uint64_t SocketCookie(int descriptor);

}  // namespace sluice
