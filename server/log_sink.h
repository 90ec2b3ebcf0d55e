// Where log lines go: a file descriptor that may be slow, full, or without a reader.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "spdlog/sinks/base_sink.h"

namespace sluice {

// Writes whole lines, waits while the descriptor takes none, and counts those that it refuses.
class LogSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  // The lost lines of others, which this counts among its own; and the line that says how many were
  // lost so far, with its line break.
  using CountLost = std::function<int64_t()>;
  using SayLost = std::function<std::string(int64_t lost)>;

  // The descriptor stays its owner's.
  LogSink(int descriptor, CountLost count_lost, SayLost say_lost)
      : descriptor_(descriptor),
        count_lost_(std::move(count_lost)),
        say_lost_(std::move(say_lost)) {}

  // Lines that were lost, here and by others. Thread-safe; does not wait.
  int64_t lost() const { return refused_ + count_lost_(); }

  // From `time` on a line that the descriptor does not take at once is lost. Thread-safe.
  void WaitUntil(absl::Time time) { wait_until_ = absl::ToUnixMicros(time); }

 private:
  void sink_it_(const spdlog::details::log_msg& message) override;
  void flush_() override {}
  bool Write(std::string_view line);
  bool AwaitRoom() const;

  const int descriptor_;
  const CountLost count_lost_;
  const SayLost say_lost_;
  std::atomic<int64_t> refused_{0};
  std::atomic<int64_t> wait_until_{INT64_MAX};  // Unix time in microseconds
  int64_t said_ = 0;   // how many were lost when it was last said; the writer thread's
  bool torn_ = false;  // the last line was written in part; likewise
};

}  // namespace sluice
