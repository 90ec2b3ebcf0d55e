#include "client/local_backend.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"

namespace sluice {

// Carries output from the engine thread to the one that waits for it. What it holds is bounded by
// the request's tokens.
class CollectingSink : public Sink {
 public:
  void OnOutput(Output output) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    outputs_.push_back(std::move(output));
    news_.notify_one();
  }

  void OnDone(Outcome outcome) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    outcome_ = std::move(outcome);
    news_.notify_one();
  }

  SinkState State() const override {
    return cancelled_.load() ? SinkState::kCancelled : SinkState::kReady;
  }

  void Cancel() { cancelled_.store(true); }

  // Waits for the next output. None once the request is done.
  std::optional<Output> Next() {
    std::unique_lock<std::mutex> lock(mutex_);
    news_.wait(lock, [this] { return !outputs_.empty() || outcome_.has_value(); });
    if (outputs_.empty()) return std::nullopt;
    Output output = std::move(outputs_.front());
    outputs_.pop_front();
    return output;
  }

  // Once Next has given none.
  Outcome TakeOutcome() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return *std::move(outcome_);
  }

 private:
  std::atomic<bool> cancelled_ = false;
  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Output> outputs_;      // guarded by mutex_
  std::optional<Outcome> outcome_;  // guarded by mutex_
};

LocalBackend::LocalBackend(EngineConfig config) : config_(std::move(config)) {}

absl::Status LocalBackend::LoadEngine(bool needs_tokenizer) {
  if (engine_ != nullptr && (config_.needs_tokenizer || !needs_tokenizer)) return absl::OkStatus();
  config_.needs_tokenizer = needs_tokenizer;
  engine_ = nullptr;  // first, so that its memory is free
  SLUICE_ASSIGN_OR_RETURN(engine_, Engine::Create(config_, nullptr, nullptr));
  return absl::OkStatus();
}

absl::Status LocalBackend::LoadTokenizer() {
  if (tokenizer_ != nullptr) return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(tokenizer_, Tokenizer::LoadDirectory(config_.model_dir));
  return absl::OkStatus();
}

absl::StatusOr<Outcome> LocalBackend::Run(const Request& request,
                                          const std::function<void(const Output&)>& on_output) {
  const bool ids_alone = request.kind == RequestKind::kScore && request.token_ids.has_value();
  SLUICE_RETURN_IF_ERROR(LoadEngine(!ids_alone));
  auto sink = std::make_shared<CollectingSink>();
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = sink;
  }
  absl::Status status = engine_->Submit(request, sink);
  while (status.ok()) {
    const std::optional<Output> output = sink->Next();
    if (!output.has_value()) break;
    on_output(*output);
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    running_ = nullptr;
  }
  SLUICE_RETURN_IF_ERROR(status);
  Outcome outcome = sink->TakeOutcome();
  SLUICE_RETURN_IF_ERROR(outcome.status);
  return outcome;
}

absl::StatusOr<std::vector<int32_t>> LocalBackend::Tokenize(const std::string& text,
                                                            bool special_tokens) {
  SLUICE_RETURN_IF_ERROR(LoadTokenizer());
  return tokenizer_->Encode(text, special_tokens);
}

absl::StatusOr<std::string> LocalBackend::Detokenize(absl::Span<const int64_t> ids,
                                                     bool keep_special_tokens) {
  SLUICE_RETURN_IF_ERROR(LoadTokenizer());
  std::vector<int32_t> narrow;
  narrow.reserve(ids.size());
  for (const int64_t id : ids) {
    if (id < 0 || id > std::numeric_limits<int32_t>::max()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token_ids holds ", id, "; ids lie in [0, ", tokenizer_->vocab_size(), ")"));
    }
    narrow.push_back(static_cast<int32_t>(id));
  }
  return tokenizer_->Decode(narrow, !keep_special_tokens);
}

absl::StatusOr<ModelDescription> LocalBackend::Describe() {
  SLUICE_RETURN_IF_ERROR(LoadEngine(/*needs_tokenizer=*/true));
  return ModelDescription{engine_->info(), SLUICE_VERSION};
}

bool LocalBackend::Cancel() {
  std::shared_ptr<CollectingSink> sink;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    sink = running_;
  }
  if (sink == nullptr) return false;
  sink->Cancel();
  engine_->Wake();
  return true;
}

}  // namespace sluice
