// An engine that does nothing by itself: tests say what its sinks are told, and see what it was
// asked.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/engine/tiny_model.h"

namespace sluice {

struct SubmittedRequest {
  Request request;
  std::shared_ptr<Sink> sink;
};

// Thread-safe.
class FakeEngine final : public Engine {
 public:
  FakeEngine() {
    tokenizer_ = *Tokenizer::Parse(ByteTokenizerJson());
    info_.model_name = "fake";
    info_.model_type = "gla";
    info_.device = "pretended";
    info_.weight_dtype = "float32";
    info_.parameters = 1234;
    info_.state_bytes = 4096;
    info_.weight_bytes = 100;
    info_.pool_bytes = 20480;
    info_.buffer_bytes = 30;
    info_.vocab_size = TinyModel::kVocab;
    info_.eos_token_ids = {TinyModel::kEos};
    info_.state_slots = 4;
    info_.max_waiting = 8;
    info_.max_prompt_tokens = 100;
    info_.max_output_tokens = 50;
    info_.max_text_bytes = 1000;
  }

  const EngineInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }

  absl::Status Submit(Request request, std::shared_ptr<Sink> sink) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!submit_status_.ok()) return submit_status_;
    submitted_.push_back({std::move(request), std::move(sink)});
    changed_.notify_all();
    return absl::OkStatus();
  }

  void Wake() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++wakes_;
    changed_.notify_all();
  }

  void StartDraining() override { draining_ = true; }
  bool FinishDraining(absl::Time /*deadline*/) override { return true; }

  int32_t CancelRequests(const std::string& id) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_.push_back(id);
    return static_cast<int32_t>(
        std::count_if(live_.begin(), live_.end(), [&](const auto& live) { return live.id == id; }));
  }
  std::vector<LiveRequestState> LiveRequests() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return live_;
  }

  EngineGauges Gauges() const override {
    const std::lock_guard<std::mutex> lock(mutex_);
    return gauges_;
  }
  absl::Duration StepAge() const override { return absl::Milliseconds(step_age_ms_.load()); }

  // The next request that was submitted; waits for it.
  SubmittedRequest Next() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return !submitted_.empty(); });
    SubmittedRequest next = std::move(submitted_.front());
    submitted_.pop_front();
    return next;
  }

  bool WaitForWakes(int count) {
    std::unique_lock<std::mutex> lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return wakes_ >= count; });
  }

  int wakes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return wakes_;
  }

  void SetSubmitStatus(absl::Status status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    submit_status_ = std::move(status);
  }
  void SetGauges(const EngineGauges& gauges) {
    const std::lock_guard<std::mutex> lock(mutex_);
    gauges_ = gauges;
  }
  void SetStepAge(absl::Duration age) { step_age_ms_ = absl::ToInt64Milliseconds(age); }
  void SetLiveRequests(std::vector<LiveRequestState> live) {
    const std::lock_guard<std::mutex> lock(mutex_);
    live_ = std::move(live);
  }
  std::vector<std::string> cancelled() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return cancelled_;
  }
  bool draining() const { return draining_; }

 private:
  EngineInfo info_;
  std::unique_ptr<const Tokenizer> tokenizer_;
  std::atomic<int64_t> step_age_ms_{0};
  std::atomic<bool> draining_{false};

  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::deque<SubmittedRequest> submitted_;
  absl::Status submit_status_;
  EngineGauges gauges_;
  std::vector<LiveRequestState> live_;
  std::vector<std::string> cancelled_;
  int wakes_ = 0;
};

}  // namespace sluice
