#include "server/response_stream.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "server/request_mapping.h"
#include "server/wire_format.h"

namespace sluice {

ResponseStream::ResponseStream(const Options& options, ResponseWriter* writer,
                               DeliveryThread* delivery)
    : options_(options), writer_(writer), delivery_(delivery), pending_(options.logprobs) {}

void ResponseStream::SetEngine(Engine* engine) { engine_.store(engine, std::memory_order_release); }

void ResponseStream::PostLocked() {
  if (posted_) return;
  posted_ = true;
  delivery_->Post(shared_from_this());
}

void ResponseStream::OnOutput(Output output) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (cancelled_ || end_.has_value()) return;
  pending_.Add(output);
  UpdateStateLocked();
  if (!writing_) PostLocked();
}

void ResponseStream::OnDone(Outcome outcome) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (cancelled_ || end_.has_value()) return;
  if (outcome.status.ok()) pending_.AddFinished(outcome);
  end_ = ToGrpcStatus(outcome.status);
  PostLocked();
}

void ResponseStream::Refuse(const absl::Status& status) {
  Next next;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!end_.has_value()) end_ = ToGrpcStatus(status);
    next = NextLocked();
  }
  Perform(next);
}

void ResponseStream::Deliver() {
  Next next;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    posted_ = false;
    next = NextLocked();
    if (end_.has_value() && writing_ && alarm_ == nullptr) {
      alarm_ = std::make_unique<grpc::Alarm>();
      alarm_->Set(absl::ToChronoTime(absl::Now() + options_.read_limit),
                  [weak = weak_from_this()](bool expired) {
                    const std::shared_ptr<ResponseStream> stream = weak.lock();
                    if (expired && stream != nullptr) stream->OnReadLimit();
                  });
    }
  }
  Perform(next);
}

void ResponseStream::OnWriteDone(bool ok) {
  Next next;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (!ok) cancelled_ = true;
    next = NextLocked();
  }
  Perform(next);
}

void ResponseStream::OnCancel() {
  Next next;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    next = NextLocked();
  }
  Perform(next);
}

void ResponseStream::OnReadLimit() {
  grpc::Status why;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_ || cancelled_) return;
    cancelling_ = true;
    why = *end_;
  }
  if (why.ok()) {
    why = {grpc::StatusCode::RESOURCE_EXHAUSTED,
           absl::StrCat("the client left the end of its stream unread for ",
                        absl::FormatDuration(options_.read_limit))};
  }
  writer_->Cancel(why);
  Next next;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelling_ = false;
    cancelled_ = true;
    next = NextLocked();
  }
  Perform(next);
}

// Claims the next call of the writer: whoever gets kWrite or kFinish makes it, without the lock.
ResponseStream::Next ResponseStream::NextLocked() {
  if (cancelled_) pending_ = PendingOutput(options_.logprobs);
  Next next;
  if (writing_ || finished_ || cancelling_) {
    next.action = Action::kNone;
  } else if (!pending_.empty()) {
    next.message = pending_.Take();
    writing_ = true;
    next.action = Action::kWrite;
  } else if (cancelled_ || end_.has_value()) {
    if (!end_.has_value()) end_ = grpc::Status::CANCELLED;
    finished_ = true;
    alarm_.reset();
    next.action = Action::kFinish;
  }
  const SinkState before = State();
  UpdateStateLocked();
  next.wake = State() != before && State() != SinkState::kBacklogged;
  return next;
}

// Nothing of this is touched after Finish: the writer may be deleted, and this with it, before it
// returns. That is also why it is called with the lock released.
void ResponseStream::Perform(const Next& next) {
  if (next.wake) {
    Engine* engine = engine_.load(std::memory_order_acquire);
    if (engine != nullptr) engine->Wake();
  }
  switch (next.action) {
    case Action::kNone:
      return;
    case Action::kWrite:
      in_flight_ = SerializeMessage(next.message);
      writer_->Write(&in_flight_);
      return;
    case Action::kFinish:
      writer_->Finish(*end_);
      return;
  }
}

void ResponseStream::UpdateStateLocked() {
  SinkState state = SinkState::kReady;
  if (cancelled_) {
    state = SinkState::kCancelled;
  } else if (pending_.bytes() > kBacklogBytes) {
    state = SinkState::kBacklogged;
  }
  state_.store(state, std::memory_order_release);
}

size_t ResponseStream::pending_bytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pending_.bytes();
}

}  // namespace sluice
