#include "client/proto_convert.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "engine/utf8.h"

namespace sluice {
namespace {

// The prompt of a GenerateRequest and the input of a ScoreRequest have the same two fields.
template <typename Message>
absl::Status SetPrompt(const Request& request, Message* message) {
  if (request.text.has_value()) {
    SLUICE_RETURN_IF_ERROR(CheckUtf8("text", *request.text));
    message->set_text(*request.text);
  }
  if (!request.token_ids.has_value()) return absl::OkStatus();
  v1::TokenIds* ids = message->mutable_token_ids();
  for (const int64_t id : *request.token_ids) {
    SLUICE_ASSIGN_OR_RETURN(const uint32_t number, ToUint32("token_ids", id));
    ids->add_ids(number);
  }
  return absl::OkStatus();
}

absl::Status SetSampling(const SamplingOptions& from, v1::SamplingParams* to) {
  if (from.temperature.has_value()) to->set_temperature(*from.temperature);
  if (from.top_k.has_value()) {
    SLUICE_ASSIGN_OR_RETURN(const uint32_t top_k, ToUint32("top_k", *from.top_k));
    to->set_top_k(top_k);
  }
  if (from.top_p.has_value()) to->set_top_p(*from.top_p);
  if (from.min_p.has_value()) to->set_min_p(*from.min_p);
  if (from.repetition_penalty.has_value()) to->set_repetition_penalty(*from.repetition_penalty);
  if (from.presence_penalty.has_value()) to->set_presence_penalty(*from.presence_penalty);
  if (from.frequency_penalty.has_value()) to->set_frequency_penalty(*from.frequency_penalty);
  if (from.seed.has_value()) to->set_seed(*from.seed);
  for (const auto& [id, bias] : from.logit_bias) {
    SLUICE_ASSIGN_OR_RETURN(const uint32_t number, ToUint32("logit_bias", id));
    (*to->mutable_logit_bias())[number] = bias;
  }
  return absl::OkStatus();
}

absl::Status SetStopping(const StoppingOptions& from, v1::StoppingCriteria* to) {
  if (from.max_tokens.has_value()) {
    SLUICE_ASSIGN_OR_RETURN(const uint32_t tokens, ToUint32("max_tokens", *from.max_tokens));
    to->set_max_tokens(tokens);
  }
  for (const std::string& stop : from.stop) {
    SLUICE_RETURN_IF_ERROR(CheckUtf8("stop", stop));
    to->add_stop(stop);
  }
  for (const int64_t id : from.stop_token_ids) {
    SLUICE_ASSIGN_OR_RETURN(const uint32_t number, ToUint32("stop_token_ids", id));
    to->add_stop_token_ids(number);
  }
  to->set_ignore_eos(from.ignore_eos);
  return absl::OkStatus();
}

OutputToken FromLogprob(uint32_t id, const v1::TokenLogprob* logprob) {
  OutputToken token{static_cast<int32_t>(id), std::nullopt, {}};
  if (logprob == nullptr) return token;
  if (logprob->has_logprob()) token.logprob = logprob->logprob();
  token.top.reserve(static_cast<size_t>(logprob->top_size()));
  for (const v1::TopLogprob& top : logprob->top()) {
    token.top.push_back({static_cast<int32_t>(top.token_id()), top.logprob()});
  }
  return token;
}

template <typename Message>
std::vector<OutputToken> FromTokens(const Message& message) {
  std::vector<OutputToken> tokens;
  tokens.reserve(static_cast<size_t>(message.token_ids_size()));
  for (int i = 0; i < message.token_ids_size(); ++i) {
    const v1::TokenLogprob* logprob = i < message.logprobs_size() ? &message.logprobs(i) : nullptr;
    tokens.push_back(FromLogprob(message.token_ids(i), logprob));
  }
  return tokens;
}

void SetCounts(const v1::Usage& usage, const v1::Timings& timings, Outcome* outcome) {
  outcome->prompt_tokens = static_cast<int32_t>(usage.prompt_tokens());
  outcome->output_tokens = static_cast<int32_t>(usage.output_tokens());
  outcome->queue_seconds = timings.queue_seconds();
  outcome->prefill_seconds = timings.prefill_seconds();
  outcome->decode_seconds = timings.decode_seconds();
  outcome->first_token_seconds = timings.time_to_first_token_seconds();
}

FinishReason FromReason(v1::FinishReason reason) {
  switch (reason) {
    case v1::FINISH_REASON_STOP:
      return FinishReason::kStop;
    case v1::FINISH_REASON_CANCELLED:
      return FinishReason::kCancelled;
    default:
      return FinishReason::kLength;
  }
}

}  // namespace

absl::Status CheckUtf8(absl::string_view field, const std::string& text) {
  const std::optional<size_t> invalid = FirstInvalidUtf8(text);
  if (!invalid.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is not valid UTF-8 at byte ", *invalid));
}

absl::StatusOr<uint32_t> ToUint32(absl::string_view field, int64_t number) {
  if (number < 0 || number > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " is ", number, "; it must lie in [0, 4294967295]"));
  }
  return static_cast<uint32_t>(number);
}

absl::StatusOr<v1::GenerateRequest> ToGenerateRequest(const Request& request) {
  SLUICE_ASSIGN_OR_RETURN(const uint32_t top, ToUint32("top_logprobs", request.top_logprobs));
  v1::GenerateRequest message;
  SLUICE_RETURN_IF_ERROR(CheckUtf8("request_id", request.id));
  message.set_request_id(request.id);
  SLUICE_RETURN_IF_ERROR(SetPrompt(request, &message));
  SLUICE_RETURN_IF_ERROR(SetSampling(request.sampling, message.mutable_sampling()));
  SLUICE_RETURN_IF_ERROR(SetStopping(request.stopping, message.mutable_stopping()));
  message.mutable_output()->set_logprobs(request.logprobs);
  message.mutable_output()->set_top_logprobs(top);
  message.mutable_output()->set_echo(request.echo);
  return message;
}

absl::StatusOr<v1::ScoreRequest> ToScoreRequest(const Request& request) {
  SLUICE_ASSIGN_OR_RETURN(const uint32_t top, ToUint32("top_logprobs", request.top_logprobs));
  v1::ScoreRequest message;
  SLUICE_RETURN_IF_ERROR(SetPrompt(request, &message));
  message.set_top_logprobs(top);
  return message;
}

Output FromResponse(const v1::GenerateResponse& response) {
  return {response.text(), FromTokens(response)};
}

Output FromResponse(const v1::ScoreResponse& response) { return {"", FromTokens(response)}; }

Outcome FromFinished(const v1::Finished& finished) {
  Outcome outcome;
  outcome.reason = FromReason(finished.reason());
  if (finished.has_stop()) outcome.stop_string = finished.stop();
  if (finished.has_token_id()) outcome.stop_token = static_cast<int32_t>(finished.token_id());
  outcome.request_id = finished.request_id();
  outcome.seed = finished.seed();
  SetCounts(finished.usage(), finished.timings(), &outcome);
  return outcome;
}

Outcome FromScored(const v1::ScoreResponse& response) {
  Outcome outcome;
  outcome.kind = RequestKind::kScore;
  SetCounts(response.usage(), response.timings(), &outcome);
  return outcome;
}

ModelDescription FromResponse(const v1::GetModelResponse& response) {
  EngineInfo info;
  info.model_name = response.name();
  info.model_type = response.model_type();
  info.device = response.device();
  info.weight_dtype = response.weight_dtype();
  info.parameters = static_cast<int64_t>(response.parameters());
  info.state_bytes = static_cast<int64_t>(response.state_bytes());
  info.hidden_size = static_cast<int32_t>(response.hidden_size());
  info.num_layers = static_cast<int32_t>(response.num_layers());
  info.vocab_size = static_cast<int32_t>(response.vocab_size());
  info.num_heads = static_cast<int32_t>(response.num_heads());
  info.num_kv_heads = static_cast<int32_t>(response.num_kv_heads());
  info.head_key_dim = static_cast<int32_t>(response.head_key_dim());
  info.head_value_dim = static_cast<int32_t>(response.head_value_dim());
  info.eos_token_ids.assign(response.eos_token_ids().begin(), response.eos_token_ids().end());
  const v1::Limits& limits = response.limits();
  info.state_slots = static_cast<int32_t>(limits.state_slots());
  info.max_waiting = static_cast<int32_t>(limits.max_waiting());
  info.max_prompt_tokens = static_cast<int32_t>(limits.max_prompt_tokens());
  info.max_output_tokens = static_cast<int32_t>(limits.max_output_tokens());
  info.max_text_bytes = static_cast<int64_t>(limits.max_text_bytes());
  return {info, response.server_version()};
}

absl::Status ToStatus(const grpc::Status& status) {
  return {static_cast<absl::StatusCode>(status.error_code()), status.error_message()};
}

}  // namespace sluice
