// A sink that keeps what it is given, for tests to wait for and look at.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/request.h"

namespace sluice {

class RecordingSink : public Sink {
 public:
  void OnOutput(Output output) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    text_ += output.text;
    for (OutputToken& token : output.tokens) tokens_.push_back(std::move(token));
    changed_.notify_all();
  }
  void OnDone(Outcome outcome) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    outcome_ = std::move(outcome);
    changed_.notify_all();
  }
  SinkState State() const override { return state_.load(); }

  void SetState(SinkState state) { state_ = state; }

  // Waits for the end; a test that waits in vain is ended by its own time limit.
  Outcome Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return outcome_.has_value(); });
    return *outcome_;
  }
  bool WaitForTokens(size_t count, absl::Duration limit = absl::Seconds(30)) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, absl::ToChronoMilliseconds(limit), [&] {
      return tokens_.size() >= count || outcome_.has_value();
    }) && tokens_.size() >= count;
  }
  bool done() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return outcome_.has_value();
  }
  std::string text() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return text_;
  }
  std::vector<OutputToken> tokens() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return tokens_;
  }
  std::vector<int32_t> ids() const {
    std::vector<int32_t> ids;
    for (const OutputToken& token : tokens()) ids.push_back(token.token);
    return ids;
  }

 private:
  std::atomic<SinkState> state_{SinkState::kReady};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_;
  std::vector<OutputToken> tokens_;
  std::optional<Outcome> outcome_;
};

}  // namespace sluice
