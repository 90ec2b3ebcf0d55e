#include "server/traffic_guard.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "kernels/check.h"

namespace sluice {
namespace {

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

// A port, and connections to it that read what they are sent.
class Reader {
 public:
  Reader() : listener_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address = Loopback(0);
    socklen_t size = sizeof(address);
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    SLUICE_CHECK(bind(listener_, any, size) == 0 && listen(listener_, 8) == 0);
    SLUICE_CHECK(getsockname(listener_, any, &size) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~Reader() {
    for (std::thread& thread : threads_) thread.join();
    close(listener_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  // The client's end of a new connection. Closing it ends the connection.
  int Connect() {
    const int client = socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in address = Loopback(port_);
    SLUICE_CHECK(connect(client, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) ==
                 0);
    const int peer = accept(listener_, nullptr, nullptr);
    SLUICE_CHECK(peer >= 0);
    threads_.emplace_back([peer] {
      std::array<char, 65536> buffer;
      while (read(peer, buffer.data(), buffer.size()) > 0) {
      }
      close(peer);
    });
    return client;
  }
  int port() const { return port_; }

 private:
  int listener_;
  int port_ = 0;
  std::vector<std::thread> threads_;
};

// Sends blocks of 64 KiB until the connection is ended. How many it took.
int Flood(int client, absl::Duration pause = absl::ZeroDuration()) {
  const std::string block(65536, 'x');
  int sent = 0;
  while (send(client, block.data(), block.size(), MSG_NOSIGNAL) > 0) {
    ++sent;
    absl::SleepFor(pause);
  }
  return sent;
}

bool IsOpen(int client) {
  pollfd events = {client, POLLIN, 0};
  return poll(&events, 1, 0) == 0;
}

TEST(TrafficGuard, EndsTheConnectionThatSendsFastestAndNoOther) {
  Reader reader;
  const int quiet = reader.Connect();
  const int fast = reader.Connect();
  TrafficGuard guard;
  guard.SetMemoryLimit(1);
  guard.Start(reader.port());
  // Before it would be a flood: that takes 1,024 blocks, or more than 16 for 15 seconds.
  EXPECT_LT(Flood(fast, absl::Milliseconds(50)), 60);
  EXPECT_EQ(guard.cut(), 1);
  EXPECT_TRUE(IsOpen(quiet));
  // What sends little is not to blame, however long the memory is too much.
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(send(quiet, "x", 1, MSG_NOSIGNAL), 1);
    absl::SleepFor(absl::Milliseconds(50));
  }
  EXPECT_TRUE(IsOpen(quiet));
  close(quiet);
  close(fast);
}

TEST(TrafficGuard, LeavesOtherPortsAlone) {
  Reader watched;
  Reader other;
  const int client = other.Connect();
  TrafficGuard guard;
  guard.SetMemoryLimit(1);
  guard.Start(watched.port());
  std::thread flood([client] { Flood(client); });
  absl::SleepFor(absl::Milliseconds(500));
  EXPECT_EQ(guard.cut(), 0);
  EXPECT_TRUE(IsOpen(client));
  shutdown(client, SHUT_RDWR);
  flood.join();
  close(client);
}

TEST(TrafficGuard, EndsNothingWhileThereIsMemory) {
  Reader reader;
  const int client = reader.Connect();
  TrafficGuard guard;
  guard.Start(reader.port());
  const std::string block(1 << 20, 'x');
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(send(client, block.data(), block.size(), MSG_NOSIGNAL), block.size());
    absl::SleepFor(absl::Milliseconds(100));
  }
  EXPECT_EQ(guard.cut(), 0);
  EXPECT_TRUE(IsOpen(client));
  close(client);
}

// Sends what is read but not answered to a port that is watched, until it is ended.
void FloodUnanswered(TrafficGuard* guard) {
  Reader reader;
  const int client = reader.Connect();
  guard->Start(reader.port());
  // Slower than it could be, so that most looks find nothing to be read.
  Flood(client, absl::Microseconds(500));
  EXPECT_EQ(guard->cut(), 1);
  close(client);
}

TEST(TrafficGuard, EndsAFloodThatIsNotAnswered) {
  TrafficGuard guard;
  FloodUnanswered(&guard);
}

TEST(TrafficGuard, NeedsNoDescriptorToLook) {
  EXPECT_GT(ResidentBytes(), 0);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  TrafficGuard guard;
  std::thread later([before] {
    absl::SleepFor(absl::Milliseconds(200));  // the sockets are open by then
    const rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
  });
  FloodUnanswered(&guard);
  later.join();
  EXPECT_EQ(open("/dev/null", O_RDONLY), -1);
  EXPECT_GT(ResidentBytes(), 0);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

TEST(TrafficGuard, LeavesRoomForTrafficAsFarAsThereIsMemory) {
  EXPECT_EQ(MemoryLimit({.resident = 100, .reserved = 50, .available = 100'000}, 1000), 1150);
  EXPECT_EQ(MemoryLimit({.resident = 100, .reserved = 50, .available = 450}, 1000), 450);
  EXPECT_EQ(MemoryLimit({.resident = 100, .reserved = 50, .available = 20}, 1000), 150);
}

TEST(TrafficGuard, KnowsTheMemoryOfTheProcess) {
  const int64_t before = ResidentBytes();
  EXPECT_GT(before, int64_t{1} << 20);
  const std::vector<char> more(size_t{64} << 20, 'x');
  EXPECT_GT(ResidentBytes(), before + (int64_t{32} << 20));
  EXPECT_EQ(more.back(), 'x');
}

}  // namespace
}  // namespace sluice
