#include "server/connection_acceptor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "kernels/check.h"
#include "server/log.h"

namespace sluice {
namespace {

// How long to leave connections in the kernel's queue when nothing can be done about them.
constexpr int kBackOffMs = 50;
// Over the limit it is looked whether connections have been closed, for a twentieth of the time at
// most, so that who knocks at a full server does not keep it busy.
constexpr int kSweepShare = 20;
constexpr std::chrono::seconds kLogInterval(1);
constexpr int kAcceptedAtOnce = 64;
// Connections that are refused for each time that descriptors have run out.
constexpr int kRefusedAtOnce = 256;

int OpenReserve() { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

}  // namespace

ConnectionAcceptor::ConnectionAcceptor(std::vector<int> listeners, int32_t max_connections,
                                       HandOver hand_over)
    : listeners_(std::move(listeners)),
      max_connections_(max_connections),
      hand_over_(std::move(hand_over)),
      wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
      reserve_(OpenReserve()) {
  SLUICE_CHECK(wake_ >= 0);
  thread_ = std::thread([this] { Run(); });
}

void ConnectionAcceptor::Stop() {
  if (!thread_.joinable()) return;
  const uint64_t one = 1;
  SLUICE_CHECK(write(wake_, &one, sizeof(one)) == sizeof(one));
  thread_.join();
  close(wake_);
  if (reserve_ >= 0) close(reserve_);
}

ConnectionCounts ConnectionAcceptor::Counts() {
  ConnectionCounts counts;
  counts.refused_by_limit = refused_by_limit_;
  counts.refused_by_descriptors = refused_by_descriptors_;
  const std::lock_guard<std::mutex> lock(mutex_);
  SweepIfDue();
  counts.open = static_cast<int64_t>(open_.size());
  return counts;
}

void ConnectionAcceptor::Run() {
  while (WaitFor(listeners_, -1)) {
    bool back_off = false;
    for (const int listener : listeners_) back_off |= AcceptSome(listener) == Next::kBackOff;
    if (back_off && !WaitFor({}, kBackOffMs)) return;
  }
}

// Not all that waits: while more and more come, the acceptor must still be able to stop.
ConnectionAcceptor::Next ConnectionAcceptor::AcceptSome(int listener) {
  Next next = Next::kAccept;
  for (int i = 0; i < kAcceptedAtOnce && next == Next::kAccept; ++i) next = AcceptOne(listener);
  return next;
}

// Waits until one of the descriptors is readable. False once the acceptor is to stop.
bool ConnectionAcceptor::WaitFor(const std::vector<int>& descriptors, int timeout_ms) {
  std::vector<pollfd> watched = {{wake_, POLLIN, 0}};
  for (const int descriptor : descriptors) watched.push_back({descriptor, POLLIN, 0});
  const int ready = poll(watched.data(), watched.size(), timeout_ms);
  SLUICE_CHECK(ready >= 0 || errno == EINTR);
  return ready < 0 || watched[0].revents == 0;
}

ConnectionAcceptor::Next ConnectionAcceptor::AcceptOne(int listener) {
  const int descriptor = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (descriptor < 0) return OnError(listener, errno);
  if (TakeRoom(descriptor)) {
    hand_over_(listener, descriptor);
    return Next::kAccept;
  }
  LogRefusal("limit", ++refused_by_limit_);
  close(descriptor);
  return Next::kAccept;
}

ConnectionAcceptor::Next ConnectionAcceptor::OnError(int listener, int error) {
  switch (error) {
    case EAGAIN:
      return Next::kWait;
    case EMFILE:
    case ENFILE:
      RefuseWithReserve(listener);
      // Not at once, so that a flood does not take a core for itself.
      return Next::kBackOff;
    case ENOBUFS:
    case ENOMEM:
      LogRefusal(std::strerror(error), 0);
      return Next::kBackOff;
    default:
      // The connection's own end, or the network's: accept(2) says to go on. What a listener that
      // works cannot answer would be ours.
      SLUICE_CHECK(error != EBADF && error != EINVAL && error != ENOTSOCK && error != EFAULT);
      return Next::kAccept;
  }
}

// Notes the connection if the limit allows.
bool ConnectionAcceptor::TakeRoom(int descriptor) {
  const auto limit = static_cast<size_t>(max_connections_);
  const std::lock_guard<std::mutex> lock(mutex_);
  if (open_.size() >= limit) SweepIfDue();
  if (open_.size() >= limit) return false;
  open_.Add(descriptor);
  return true;
}

// Not so often that it takes more than a small share of the time.
void ConnectionAcceptor::SweepIfDue() {
  const auto now = Clock::now();
  if (now < next_sweep_) return;
  open_.Sweep();
  const Clock::duration took = Clock::now() - now;
  next_sweep_ = now + kSweepShare * took;
}

// Gives the reserve up for a moment, to close what waits instead of leaving it to its timeout.
void ConnectionAcceptor::RefuseWithReserve(int listener) {
  if (reserve_ >= 0) {
    close(reserve_);
    for (int i = 0; i < kRefusedAtOnce; ++i) {
      const int descriptor = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (descriptor < 0) break;
      ++refused_by_descriptors_;
      close(descriptor);
    }
  }
  reserve_ = OpenReserve();
  LogRefusal("descriptors", refused_by_descriptors_);
}

void ConnectionAcceptor::LogRefusal(const char* reason, int64_t count) {
  const auto now = Clock::now();
  if (now - logged_ < kLogInterval) return;
  logged_ = now;
  Log(LogLevel::kWarning, "connection_refused",
      LogFields().Add("reason", reason).Add("refused", count));
}

}  // namespace sluice
