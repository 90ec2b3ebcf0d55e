#include "server/client_address.h"

#include <gtest/gtest.h>

namespace sluice {
namespace {

TEST(ClientOfPeer, LeavesOutThePort) {
  EXPECT_EQ(ClientOfPeer("ipv4:192.0.2.1:50123"), "192.0.2.1");
  EXPECT_EQ(ClientOfPeer("ipv4:192.0.2.1:50124"), "192.0.2.1");
}

TEST(ClientOfPeer, TakesAnIpv6NetworkForOneClient) {
  // As gRPC 1.51 writes it, and as others do.
  EXPECT_EQ(ClientOfPeer("ipv6:%5B2001:db8:1:2:3:4:5:6%5D:50123"), "2001:db8:1:2::/64");
  EXPECT_EQ(ClientOfPeer("ipv6:[2001:db8:1:2:ffff::1]:50124"), "2001:db8:1:2::/64");
  EXPECT_EQ(ClientOfPeer("ipv6:%5B2001:db8:1:3::1%5D:1"), "2001:db8:1:3::/64");
  EXPECT_EQ(ClientOfPeer("ipv6:[::1]:5"), "::/64");
  EXPECT_EQ(ClientOfPeer("ipv6:%5Bfe80::1%25eth0%5D:5"), "fe80::/64");
  EXPECT_EQ(ClientOfPeer("ipv6:[::ffff:192.0.2.1]:5"), "192.0.2.1") << "the same as over IPv4";
}

TEST(ClientOfPeer, TakesAUnixSocketsCallersForOne) {
  EXPECT_EQ(ClientOfPeer("unix:/run/sluice"), "unix");
  EXPECT_EQ(ClientOfPeer("unix:"), "unix");
  EXPECT_EQ(ClientOfPeer("unix-abstract:name"), "unix");
}

TEST(ClientOfPeer, TakesWhatItDoesNotKnowAsItIs) {
  EXPECT_EQ(ClientOfPeer("unknown"), "unknown");
  EXPECT_EQ(ClientOfPeer(""), "");
  EXPECT_EQ(ClientOfPeer("vsock:3"), "vsock:3");
  EXPECT_EQ(ClientOfPeer("ipv6:[nonsense]:5"), "nonsense");
  EXPECT_EQ(ClientOfPeer("ipv6:[:5"), "");
}

}  // namespace
}  // namespace sluice
