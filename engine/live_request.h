// What operators see of the requests that run and wait.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/request.h"

namespace sluice {

struct LiveRequestState {
  std::string id;  // as logs name it; a client may give several requests the same
  std::string peer;
  std::string tenant;
  RequestKind kind = RequestKind::kGenerate;
  absl::Time arrived;
  int32_t prompt_tokens = 0;
  int32_t output_tokens = 0;  // generated so far
  bool running = false;       // holds a slot; else it waits for one
};

// One request. Thread-safe.
class LiveRequest {
 public:
  explicit LiveRequest(LiveRequestState state) : state_(std::move(state)) {}

  // From the engine thread.
  void SetRunning() { running_.store(true, std::memory_order_relaxed); }
  void SetOutputTokens(int32_t count) { output_tokens_.store(count, std::memory_order_relaxed); }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  const std::string& id() const { return state_.id; }
  LiveRequestState State() const {
    LiveRequestState state = state_;
    state.output_tokens = output_tokens_.load(std::memory_order_relaxed);
    state.running = running_.load(std::memory_order_relaxed);
    return state;
  }

 private:
  const LiveRequestState state_;  // as it was when the request arrived
  std::atomic<int32_t> output_tokens_{0};
  std::atomic<bool> running_{false};
  std::atomic<bool> cancelled_{false};
};

// All of them. Thread-safe.
class LiveRequestSet {
 public:
  std::shared_ptr<LiveRequest> Add(LiveRequestState state);
  void Remove(const std::shared_ptr<LiveRequest>& request);

  // Marks those of this id as cancelled. How many there are.
  int32_t Cancel(const std::string& id);
  // The oldest first.
  std::vector<LiveRequestState> States() const;

 private:
  mutable std::mutex mutex_;
  std::unordered_set<std::shared_ptr<LiveRequest>> requests_;  // guarded by mutex_
};

}  // namespace sluice
