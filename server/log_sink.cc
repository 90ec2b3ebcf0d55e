#include "server/log_sink.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace sluice {
namespace {

// How often a wait is interrupted to see whether it is still wanted.
constexpr int kPollMs = 50;

}  // namespace

void LogSink::sink_it_(const spdlog::details::log_msg& message) {
  if (const int64_t lost = this->lost(); lost > said_ && Write(say_lost_(lost))) said_ = lost;
  spdlog::memory_buf_t line;
  formatter_->format(message, line);
  if (!Write({line.data(), line.size()})) ++refused_;
}

// False if the line was refused, or nobody took it in time.
bool LogSink::Write(std::string_view line) {
  const std::string whole =
      absl::StrCat(torn_ ? "\n" : "", absl::string_view(line.data(), line.size()));
  std::string_view rest = whole;
  while (!rest.empty()) {
    if (!AwaitRoom()) break;
    // A pipe that poll() calls writable takes as much as this without waiting.
    const ssize_t count = write(descriptor_, rest.data(), std::min<size_t>(rest.size(), PIPE_BUF));
    if (count < 0 && errno != EINTR && errno != EAGAIN) break;
    if (count > 0) rest.remove_prefix(static_cast<size_t>(count));
  }
  if (rest.size() < whole.size()) torn_ = !rest.empty();
  return rest.empty();
}

bool LogSink::AwaitRoom() const {
  pollfd room = {descriptor_, POLLOUT, 0};
  while (poll(&room, 1, 0) == 0) {
    if (absl::ToUnixMicros(absl::Now()) >= wait_until_) return false;
    (void)poll(&room, 1, kPollMs);
  }
  return true;  // or an error, which the write finds
}

}  // namespace sluice
