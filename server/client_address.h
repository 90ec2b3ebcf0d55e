// Who a caller without a key is: the address it calls from.
#pragma once

#include <string>
#include <string_view>

namespace sluice {

// What calls are counted by, for a peer as gRPC names it ("ipv4:192.0.2.1:5",
// "ipv6:%5B2001:db8::1%5D:5", "unix:..."): the address without its port, of IPv6 the network of 64
// bits, since one host may have all of it. All of a Unix socket's callers are "unix"; a name of
// another form is taken as it is.
std::string ClientOfPeer(std::string_view peer);

}  // namespace sluice
