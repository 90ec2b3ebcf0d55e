#include "server/score_call.h"

#include <iterator>
#include <utility>

#include "server/request_mapping.h"
#include "server/wire_format.h"

namespace sluice {
namespace {

grpc::ByteBuffer ToResponse(const std::vector<OutputToken>& tokens, const Outcome& outcome) {
  v1::ScoreResponse response;
  for (const OutputToken& token : tokens) {
    response.add_token_ids(static_cast<uint32_t>(token.token));
    SetTokenLogprob(token, response.add_logprobs());
  }
  SetUsage(outcome, response.mutable_usage());
  SetTimings(outcome, response.mutable_timings());
  return SerializeMessage(response);
}

}  // namespace

ScoreCall::ScoreCall(grpc::ByteBuffer* response, DeliveryThread* delivery,
                     std::function<void(const grpc::Status&)> finish)
    : response_(response), delivery_(delivery), finish_(std::move(finish)) {}

void ScoreCall::OnOutput(Output output) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_) return;
  tokens_.insert(tokens_.end(), std::make_move_iterator(output.tokens.begin()),
                 std::make_move_iterator(output.tokens.end()));
}

void ScoreCall::OnDone(Outcome outcome) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finished_) return;
  outcome_ = std::move(outcome);
  delivery_->Post(shared_from_this());
}

void ScoreCall::OnCancel() {
  state_.store(SinkState::kCancelled, std::memory_order_release);
  FinishOnce(absl::CancelledError("the client cancelled"));
  Engine* engine = engine_.load(std::memory_order_acquire);
  if (engine != nullptr) engine->Wake();
}

void ScoreCall::Deliver() {
  std::vector<OutputToken> tokens;
  Outcome outcome;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_) return;
    finished_ = true;
    tokens.swap(tokens_);
    outcome = std::move(outcome_);
  }
  // Draining ends a request early and calls that a success; half an answer is none here.
  if (outcome.status.ok() && outcome.reason == FinishReason::kCancelled) {
    outcome.status = absl::UnavailableError("the server is draining; try another replica");
  }
  if (outcome.status.ok()) *response_ = ToResponse(tokens, outcome);
  finish_(ToGrpcStatus(outcome.status));
}

void ScoreCall::FinishOnce(const absl::Status& status) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finished_) return;
    finished_ = true;
    tokens_ = {};
  }
  finish_(ToGrpcStatus(status));
}

}  // namespace sluice
