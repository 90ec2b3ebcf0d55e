#include "server/listen_socket.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "tests/server/raw_connection.h"

namespace sluice {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::SizeIs;
using testing::StartsWith;

std::string Error(const std::string& address) {
  const auto socket = ListenSocket::Open("--listen", address);
  return socket.ok() ? "OK" : std::string(socket.status().message());
}

std::string NewPath(const std::string& name) { return testing::TempDir() + name; }

// Whether somebody who connects to the address arrives at the socket.
bool IsReached(const ListenSocket& socket, const std::string& address) {
  const RawConnection client(address);
  if (!client.connected()) return false;
  for (const int descriptor : socket.descriptors()) {
    pollfd watched = {descriptor, POLLIN, 0};
    if (poll(&watched, 1, 0) == 1) return true;
  }
  return false;
}

TEST(ListenSocket, ListensOnIpv4AndSaysTheFreePortItGot) {
  const auto socket = *ListenSocket::Open("--listen", "127.0.0.1:0");
  EXPECT_THAT(socket->address(), MatchesRegex("127\\.0\\.0\\.1:[1-9][0-9]*"));
  EXPECT_THAT(socket->descriptors(), SizeIs(1));
  EXPECT_TRUE(IsReached(*socket, socket->address()));
}

TEST(ListenSocket, ListensOnIpv6) {
  const auto socket = *ListenSocket::Open("--listen", "[::1]:0");
  EXPECT_THAT(socket->address(), MatchesRegex("\\[::1\\]:[1-9][0-9]*"));
  EXPECT_TRUE(IsReached(*socket, socket->address()));
}

TEST(ListenSocket, TheWildcardOfIpv6TakesIpv4Too) {
  const auto socket = *ListenSocket::Open("--listen", "[::]:0");
  const std::string port = socket->address().substr(socket->address().rfind(':'));
  EXPECT_TRUE(IsReached(*socket, "127.0.0.1" + port));
  EXPECT_TRUE(IsReached(*socket, "[::1]" + port));
}

TEST(ListenSocket, AHostByNameIsReachedOnEachOfItsAddresses) {
  const auto socket = *ListenSocket::Open("--listen", "localhost:0");
  EXPECT_THAT(socket->address(), StartsWith("localhost:"));
  const std::string port = socket->address().substr(socket->address().rfind(':'));
  EXPECT_TRUE(IsReached(*socket, "127.0.0.1" + port));
}

TEST(ListenSocket, SharesAPortWithNobody) {
  const auto first = *ListenSocket::Open("--listen", "127.0.0.1:0");
  EXPECT_EQ(Error(first->address()),
            "--listen=" + first->address() + ": cannot listen there: Address already in use");
}

TEST(ListenSocket, TakesAPortAgainAtOnce) {
  std::string address;
  {
    const auto first = *ListenSocket::Open("--listen", "127.0.0.1:0");
    address = first->address();
    // A connection that its server's side ended is remembered for a minute.
    const RawConnection client(address);
    close(accept4(first->descriptors()[0], nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(client.WaitUntilClosed());
  }
  EXPECT_EQ(Error(address), "OK");
}

TEST(ListenSocket, SaysWhyAnAddressCannotBeHad) {
  EXPECT_EQ(Error("192.0.2.1:0"),
            "--listen=192.0.2.1:0: cannot listen there: Cannot assign requested address");
  EXPECT_THAT(Error("no-such-host.invalid:0"), StartsWith("--listen=no-such-host.invalid:0: "));
  EXPECT_THAT(Error("unix:/no/such/folder/socket"), EndsWith("No such file or directory"));
  EXPECT_THAT(Error("unix:"), HasSubstr("a path has 1 to 107 bytes"));
  EXPECT_THAT(Error("unix:/" + std::string(107, 'x')), HasSubstr("a path has 1 to 107 bytes"));
}

TEST(ListenSocket, ListensOnAPathAndCleansUp) {
  const std::string path = NewPath("listen_socket");
  {
    const auto socket = *ListenSocket::Open("--listen", "unix:" + path);
    EXPECT_EQ(socket->address(), "unix:" + path);
    EXPECT_TRUE(IsReached(*socket, socket->address()));
    EXPECT_THAT(Error("unix:" + path), EndsWith("Address already in use"));
    EXPECT_TRUE(IsReached(*socket, socket->address())) << "the second took the path away";
  }
  EXPECT_NE(access(path.c_str(), F_OK), 0);
  const auto socket = *ListenSocket::Open("--listen", "unix://" + path);
  EXPECT_TRUE(IsReached(*socket, "unix:" + path));
}

TEST(ListenSocket, ReplacesASocketFileThatNobodyListensOn) {
  const std::string path = NewPath("stale_socket");
  {
    const auto socket = *ListenSocket::Open("--listen", "unix:" + path);
    ASSERT_EQ(rename(path.c_str(), (path + ".left").c_str()), 0);
  }
  ASSERT_EQ(rename((path + ".left").c_str(), path.c_str()), 0);  // as after SIGKILL
  const auto socket = *ListenSocket::Open("--listen", "unix:" + path);
  EXPECT_TRUE(IsReached(*socket, socket->address()));
}

TEST(ListenSocket, ReplacesNoFileOfAnotherKind) {
  const std::string path = NewPath("a_file");
  std::ofstream(path) << "precious";
  EXPECT_THAT(Error("unix:" + path), EndsWith("Address already in use"));
  std::string content;
  std::ifstream(path) >> content;
  EXPECT_EQ(content, "precious");
  unlink(path.c_str());
}

}  // namespace
}  // namespace sluice
