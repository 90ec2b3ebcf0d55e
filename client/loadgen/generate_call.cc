#include "client/loadgen/generate_call.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/loadgen/monotonic_clock.h"

namespace sluice {

GenerateCall::GenerateCall(const CallOptions* options, LoadStats* stats, TimerThread* timers,
                           CallStart start)
    : options_(options),
      stats_(stats),
      timers_(timers),
      user_(start.user),
      plan_(std::move(start.plan)) {
  record_.index = plan_.index;
  record_.kind = plan_.kind;
  record_.measured = start.measured;
  record_.due_ns = start.due_ns;
  record_.prompt_tokens = plan_.prompt_tokens;
}

void GenerateCall::Begin(v1::GenerationService::Stub* stub, grpc::CompletionQueue* queue) {
  const std::lock_guard<std::mutex> lock(mutex_);
  stats_->OnDue(record_);
  if (options_->deadline != absl::InfiniteDuration()) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + options_->deadline));
  }
  if (!options_->api_key.empty()) {
    context_.AddMetadata("authorization", absl::StrCat("Bearer ", options_->api_key));
  }
  reader_ = stub->PrepareAsyncGenerate(&context_, plan_.message, queue);
  record_.sent_ns = MonotonicNs();
  reader_->StartCall(this);
}

bool GenerateCall::OnEvent(bool ok, int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  switch (step_) {
    case Step::kStarting:
      CancelIfDueLocked();
      ReadLocked();
      return false;
    case Step::kReading:
      if (!ok) {
        step_ = Step::kFinishing;
        reader_->Finish(&status_, this);
        return false;
      }
      OnMessageLocked(now_ns);
      CancelIfDueLocked();
      if (record_.kind == LoadKind::kSlow && !response_.has_finished() && !abandoned_.has_value()) {
        PauseLocked(now_ns);
      } else {
        ReadLocked();
      }
      return false;
    case Step::kPausing:
      return false;  // no operation is under way, so there is no event
    case Step::kFinishing:
      EndLocked(now_ns);
      return true;
  }
  return false;
}

void GenerateCall::OnMessageLocked(int64_t now_ns) {
  if (response_.has_finished()) {
    finished_ = response_.finished();
    record_.prompt_tokens = finished_->usage().prompt_tokens();
  }
  if (options_->keep_output) {
    text_ += response_.text();
    token_ids_.insert(token_ids_.end(), response_.token_ids().begin(), response_.token_ids().end());
  }
  const int64_t tokens = response_.token_ids_size();
  if (tokens == 0) return;
  int64_t gap_ns = -1;
  if (record_.output_tokens == 0) {
    record_.first_token_ns = now_ns;
  } else {
    gap_ns = now_ns - record_.last_token_ns;
    record_.longest_gap_ns = std::max(record_.longest_gap_ns, gap_ns);
    record_.later_tokens += tokens;
  }
  record_.output_tokens += tokens;
  record_.last_token_ns = now_ns;
  stats_->OnTokens(record_, now_ns, tokens, gap_ns);
}

void GenerateCall::CancelIfDueLocked() {
  if (record_.kind != LoadKind::kCancel || cancelled_) return;
  if (record_.output_tokens < plan_.cancel_after_tokens) return;
  cancelled_ = true;
  context_.TryCancel();
}

void GenerateCall::ReadLocked() {
  step_ = Step::kReading;
  reader_->Read(&response_, this);
}

void GenerateCall::PauseLocked(int64_t now_ns) {
  step_ = Step::kPausing;
  const int64_t until_ns = now_ns + absl::ToInt64Nanoseconds(options_->slow_pause);
  timers_->At(until_ns, [weak = weak_from_this()] {
    const std::shared_ptr<GenerateCall> call = weak.lock();
    if (call == nullptr) return;
    const std::lock_guard<std::mutex> lock(call->mutex_);
    if (call->step_ == Step::kPausing) call->ReadLocked();
  });
}

void GenerateCall::Abandon(RequestEnd why) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (abandoned_.has_value()) return;
  abandoned_ = why;
  context_.TryCancel();
  if (step_ == Step::kPausing) ReadLocked();
}

void GenerateCall::SetErrorLocked(const std::string& name, const std::string& message) {
  record_.end = RequestEnd::kError;
  record_.error = name;
  record_.message = message;
}

void GenerateCall::EndLocked(int64_t now_ns) {
  record_.end_ns = now_ns;
  const auto code = static_cast<absl::StatusCode>(status_.error_code());
  const bool was_cancelled = code == absl::StatusCode::kCancelled;
  if (abandoned_ == RequestEnd::kInterrupted && was_cancelled) {
    record_.end = RequestEnd::kInterrupted;
  } else if (abandoned_.has_value() && was_cancelled) {
    SetErrorLocked("UNFINISHED", "not answered when the drain was over");
  } else if (record_.kind == LoadKind::kInvalid && code == absl::StatusCode::kInvalidArgument) {
    record_.end = RequestEnd::kRefused;
    record_.message = status_.error_message();
  } else if (cancelled_ && was_cancelled) {
    record_.end = RequestEnd::kCancelled;
  } else if (!status_.ok()) {
    SetErrorLocked(absl::StatusCodeToString(code), status_.error_message());
  } else if (record_.kind == LoadKind::kInvalid) {
    SetErrorLocked("INVALID_ACCEPTED", absl::StrCat(plan_.fault, " was not refused"));
  } else if (!finished_.has_value()) {
    SetErrorLocked("INCOMPLETE", "the stream ended without saying how the request finished");
  } else if (finished_->reason() == v1::FINISH_REASON_CANCELLED) {
    SetErrorLocked("CUT_SHORT", "the server ended it before its time");
  }
  stats_->OnEnd(record_);
}

}  // namespace sluice
