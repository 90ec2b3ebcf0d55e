// Keeps what clients can cause at will from filling a disk.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>

#include "absl/time/time.h"

namespace sluice {

// Thread-safe.
class LogLimit {
 public:
  explicit LogLimit(int64_t lines_per_second) : lines_per_second_(lines_per_second) {}

  // Whether a line may be written now; if so, how many were not since the last that was.
  std::optional<int64_t> Take(absl::Time now) {
    const std::lock_guard<std::mutex> lock(mutex_);
    // A clock that was set back begins a new second too.
    if (now - second_ >= absl::Seconds(1) || now < second_) {
      second_ = now;
      written_ = 0;
    }
    if (written_ >= lines_per_second_) {
      ++left_out_;
      return std::nullopt;
    }
    ++written_;
    const int64_t left_out = left_out_;
    left_out_ = 0;
    return left_out;
  }

 private:
  const int64_t lines_per_second_;
  std::mutex mutex_;
  absl::Time second_ = absl::InfinitePast();  // when it began; guarded by mutex_, as the rest
  int64_t written_ = 0;                       // in it
  int64_t left_out_ = 0;
};

}  // namespace sluice
