#include "server/connection_acceptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "server/listen_socket.h"
#include "tests/server/raw_connection.h"

namespace sluice {
namespace {

// Keeps what it is handed, as gRPC does.
class AcceptorTest : public testing::Test {
 protected:
  ~AcceptorTest() override {
    acceptor_ = nullptr;
    for (const int descriptor : accepted_) close(descriptor);
  }

  void Start(int32_t max_connections) {
    acceptor_ = std::make_unique<ConnectionAcceptor>(
        socket_->descriptors(), max_connections, [this](int /*listener*/, int descriptor) {
          const std::lock_guard<std::mutex> lock(mutex_);
          accepted_.push_back(descriptor);
          changed_.notify_all();
        });
  }
  bool WaitForAccepted(size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(30),
                             [&] { return accepted_.size() >= count; });
  }
  void CloseFirst() {
    const std::lock_guard<std::mutex> lock(mutex_);
    close(accepted_.front());
    accepted_.erase(accepted_.begin());
  }
  std::unique_ptr<RawConnection> Connect() const {
    return std::make_unique<RawConnection>(socket_->address());
  }
  // Whether a new connection is taken within some seconds.
  bool IsTakenAtLast() {
    const absl::Time deadline = absl::Now() + absl::Seconds(30);
    while (absl::Now() < deadline) {
      const auto client = Connect();
      if (!client->WaitUntilClosed(absl::Milliseconds(50))) return true;
    }
    return false;
  }

  std::unique_ptr<ListenSocket> socket_ = *ListenSocket::Open("--listen", "127.0.0.1:0");
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> accepted_;
  std::unique_ptr<ConnectionAcceptor> acceptor_;
};

TEST_F(AcceptorTest, HandsOverNonBlockingDescriptorsThatNoChildInherits) {
  Start(10);
  const auto client = Connect();
  ASSERT_TRUE(WaitForAccepted(1));
  EXPECT_NE(fcntl(accepted_[0], F_GETFL) & O_NONBLOCK, 0);
  EXPECT_NE(fcntl(accepted_[0], F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(acceptor_->Counts().open, 1);
}

TEST_F(AcceptorTest, ClosesWhatIsOverTheLimitAtOnce) {
  Start(2);
  const auto first = Connect();
  const auto second = Connect();
  ASSERT_TRUE(WaitForAccepted(2));
  const auto third = Connect();
  EXPECT_TRUE(third->WaitUntilClosed());
  EXPECT_TRUE(first->IsOpen());
  EXPECT_TRUE(second->IsOpen());
  ConnectionCounts counts = acceptor_->Counts();
  EXPECT_EQ(counts.open, 2);
  EXPECT_EQ(counts.refused_by_limit, 1);
  EXPECT_EQ(counts.refused_by_descriptors, 0);

  // One that was closed makes room for another, soon.
  CloseFirst();
  while (acceptor_->Counts().open != 1) {
  }
  const auto fourth = Connect();
  EXPECT_TRUE(WaitForAccepted(2));
}

TEST_F(AcceptorTest, LooksForRoomByItself) {
  Start(1);
  const auto first = Connect();
  ASSERT_TRUE(WaitForAccepted(1));
  EXPECT_TRUE(Connect()->WaitUntilClosed());
  CloseFirst();
  EXPECT_TRUE(IsTakenAtLast());
}

TEST_F(AcceptorTest, StopsWhileConnectionsCome) {
  Start(50);
  std::atomic<bool> stop{false};
  std::thread flood([&] {
    while (!stop) Connect();
  });
  ASSERT_TRUE(WaitForAccepted(20));
  acceptor_->Stop();
  const size_t accepted = accepted_.size();
  stop = true;
  flood.join();
  EXPECT_EQ(accepted_.size(), accepted);
}

// Takes every descriptor that the process may have, until it is destroyed.
class NoDescriptors {
 public:
  NoDescriptors() {
    getrlimit(RLIMIT_NOFILE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = 256;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int descriptor = 0; (descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) {
      taken_.push_back(descriptor);
    }
  }
  ~NoDescriptors() {
    for (const int descriptor : taken_) close(descriptor);
    setrlimit(RLIMIT_NOFILE, &before_);
  }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

 private:
  rlimit before_{};
  std::vector<int> taken_;
};

TEST_F(AcceptorTest, OutlivesTheLackOfDescriptors) {
  Start(1000);
  const auto early = Connect();
  ASSERT_TRUE(WaitForAccepted(1));
  // The clients' own descriptors, while there are some. They connect to the queue of the kernel.
  std::vector<int> sockets;
  for (int i = 0; i < 5; ++i) {
    sockets.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  getsockname(socket_->descriptors()[0], reinterpret_cast<sockaddr*>(&address), &length);
  {
    const NoDescriptors none;
    for (const int descriptor : sockets) {
      ASSERT_EQ(connect(descriptor, reinterpret_cast<sockaddr*>(&address), length), 0);
    }
    char byte = 0;
    for (const int descriptor : sockets) {
      EXPECT_LE(recv(descriptor, &byte, 1, 0), 0) << "not closed, but given bytes";
    }
    EXPECT_EQ(acceptor_->Counts().refused_by_descriptors, 5);
    EXPECT_TRUE(early->IsOpen());
  }
  for (const int descriptor : sockets) close(descriptor);
  EXPECT_TRUE(IsTakenAtLast());
  EXPECT_EQ(acceptor_->Counts().refused_by_limit, 0);
}

}  // namespace
}  // namespace sluice
