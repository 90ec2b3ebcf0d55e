#include "server/traffic_guard.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "server/log.h"

namespace sluice {
namespace {

constexpr std::chrono::milliseconds kInterval(100);
constexpr std::chrono::seconds kFloodInterval(1);
// What is freed goes back to the system this often: it takes a second for gigabytes.
constexpr std::chrono::seconds kTrimInterval(1);
constexpr double kLeastBytesPerSecond = 256 << 10;  // what sends more slowly is not to blame

}  // namespace

int64_t ResidentBytes() {
  // Kept open: there may be no descriptor left when it matters.
  static const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  std::array<char, 128> text{};
  if (pread(file, text.data(), text.size() - 1, 0) <= 0) return 0;
  int64_t total_pages = 0;
  int64_t resident_pages = 0;
  if (std::sscanf(text.data(), "%ld %ld", &total_pages, &resident_pages) != 2) return 0;
  return resident_pages * sysconf(_SC_PAGESIZE);
}

int64_t MemoryLimit(const MemoryUse& use, int64_t most_traffic) {
  const int64_t left = std::max<int64_t>(use.available - use.reserved, 0);
  return use.resident + use.reserved + std::min(most_traffic, left / 4 * 3);
}

TrafficGuard::~TrafficGuard() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  stopped_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void TrafficGuard::Start(int port) {
  thread_ = std::thread([this, port] { Run(port); });
}

void TrafficGuard::Run(int port) {
  auto last = Clock::now();
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopped_.wait_for(lock, kInterval, [this] { return stopping_; })) {
    const auto now = Clock::now();
    if (ResidentBytes() > memory_limit_) {
      Look(port, now - last);
    } else {
      last_.clear();
    }
    last = now;
    if (now - looked_for_floods_ >= kFloodInterval) {
      looked_for_floods_ = now;
      EndFloods(port);
    }
  }
}

void TrafficGuard::Look(int port, Clock::duration since_last) {
  const Traffic before = std::exchange(last_, view_.Look(port));
  if (!before.empty()) EndFastest(before, since_last);
  if (Clock::now() - trimmed_ < kTrimInterval) return;
  malloc_trim(0);
  trimmed_ = Clock::now();
}

void TrafficGuard::EndFloods(int port) {
  for (const FloodWatch::Verdict& verdict : floods_.Look(view_.Look(port))) {
    End(verdict.descriptor, verdict.traffic, LogFields().Add("reason", verdict.reason));
  }
}

void TrafficGuard::End(int descriptor, const ConnectionTraffic& traffic, LogFields fields) {
  Log(LogLevel::kWarning, "connection_cut", fields.Add("peer", PeerOf(descriptor)));
  ++cut_;  // first: who sees its end may ask for the count
  EndConnection(descriptor, traffic);
}

void TrafficGuard::EndFastest(const Traffic& before, Clock::duration since) {
  int fastest = -1;
  int64_t most = 0;
  for (const auto& [descriptor, traffic] : last_) {
    const auto found = before.find(descriptor);
    // A connection that was not there before has sent all of it since then.
    const int64_t received =
        traffic.received - (found == before.end() ? 0 : found->second.received);
    if (received <= most) continue;
    fastest = descriptor;
    most = received;
  }
  const double rate = static_cast<double>(most) / std::chrono::duration<double>(since).count();
  if (rate < kLeastBytesPerSecond) return;
  End(fastest, last_.at(fastest),
      LogFields()
          .Add("reason", "memory")
          .Add("bytes_per_second", static_cast<int64_t>(rate))
          .Add("resident_bytes", ResidentBytes()));
  last_.clear();  // who is next is seen once this one's memory can have been given back
}

}  // namespace sluice
