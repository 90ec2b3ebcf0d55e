#include "server/response_stream.h"

#include <chrono>
#include <utility>

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
  Action action = Action::kNone;
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!end_.has_value()) end_ = ToGrpcStatus(status);
    action = NextLocked(&wake);
  }
  Perform(action, wake);
}

void ResponseStream::Deliver() {
  Action action = Action::kNone;
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    posted_ = false;
    action = NextLocked(&wake);
    if (end_.has_value() && writing_ && alarm_ == nullptr) {
      alarm_ = std::make_unique<grpc::Alarm>();
      alarm_->Set(absl::ToChronoTime(absl::Now() + options_.read_limit),
                  [weak = weak_from_this()](bool expired) {
                    const std::shared_ptr<ResponseStream> stream = weak.lock();
                    if (expired && stream != nullptr) stream->OnReadLimit();
                  });
    }
  }
  Perform(action, wake);
}

void ResponseStream::OnWriteDone(bool ok) {
  Action action = Action::kNone;
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (!ok) cancelled_ = true;
    action = NextLocked(&wake);
  }
  Perform(action, wake);
}

void ResponseStream::OnCancel() {
  Action action = Action::kNone;
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    action = NextLocked(&wake);
  }
  Perform(action, wake);
}

void ResponseStream::OnReadLimit() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_ || cancelled_) return;
    cancelling_ = true;
  }
  writer_->Cancel();
  Action action = Action::kNone;
  bool wake = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelling_ = false;
    cancelled_ = true;
    action = NextLocked(&wake);
  }
  Perform(action, wake);
}

// Claims the next call of the writer: whoever gets kWrite or kFinish makes it, without the lock.
ResponseStream::Action ResponseStream::NextLocked(bool* wake) {
  if (cancelled_) pending_ = PendingOutput(options_.logprobs);
  Action action = Action::kNone;
  if (writing_ || finished_ || cancelling_) {
    action = Action::kNone;
  } else if (!pending_.empty()) {
    message_ = pending_.Take();
    writing_ = true;
    action = Action::kWrite;
  } else if (cancelled_ || end_.has_value()) {
    if (!end_.has_value()) end_ = grpc::Status::CANCELLED;
    finished_ = true;
    alarm_.reset();
    action = Action::kFinish;
  }
  const SinkState before = State();
  UpdateStateLocked();
  *wake = State() != before && State() != SinkState::kBacklogged;
  return action;
}

// Nothing of this is touched after Finish: the writer may be deleted, and this with it, before it
// returns. That is also why it is called with the lock released.
void ResponseStream::Perform(Action action, bool wake) {
  if (wake) {
    Engine* engine = engine_.load(std::memory_order_acquire);
    if (engine != nullptr) engine->Wake();
  }
  switch (action) {
    case Action::kNone:
      return;
    case Action::kWrite:
      in_flight_ = SerializeMessage(message_);
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
