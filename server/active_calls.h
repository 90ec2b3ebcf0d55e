// Counts calls, so that a server that is ending can wait for them.
//
// gRPC's own Shutdown waits for open health watches too, which never end by themselves.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace sluice {

// Thread-safe.
class ActiveCalls {
 public:
  void Begin() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
  }

  void End() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--count_ == 0) idle_.notify_all();
  }

  int64_t count() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return count_;
  }

  // Blocks until no call is active. Whether that came to pass before `deadline`.
  bool WaitUntilIdle(absl::Time deadline) {
    std::unique_lock<std::mutex> lock(mutex_);
    return idle_.wait_until(lock, absl::ToChronoTime(deadline), [this] { return count_ == 0; });
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  int64_t count_ = 0;  // guarded by mutex_
};

}  // namespace sluice
