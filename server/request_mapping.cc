#include "server/request_mapping.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/version.h"

namespace sluice {
namespace {

constexpr size_t kMaxMessageBytes = 1024;
constexpr int32_t kMaxTopLogprobs = 20;  // as generation.proto says

std::vector<int64_t> ToIds(const google::protobuf::RepeatedField<uint32_t>& ids) {
  return {ids.begin(), ids.end()};
}

SamplingOptions ToSampling(const v1::SamplingParams& proto) {
  SamplingOptions options;
  if (proto.has_temperature()) options.temperature = proto.temperature();
  if (proto.has_top_k()) options.top_k = proto.top_k();
  if (proto.has_top_p()) options.top_p = proto.top_p();
  if (proto.has_min_p()) options.min_p = proto.min_p();
  if (proto.has_repetition_penalty()) options.repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) options.presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) options.frequency_penalty = proto.frequency_penalty();
  if (proto.has_seed()) options.seed = proto.seed();
  options.logit_bias.assign(proto.logit_bias().begin(), proto.logit_bias().end());
  std::sort(options.logit_bias.begin(), options.logit_bias.end());  // a map has no order
  return options;
}

StoppingOptions ToStopping(const v1::StoppingCriteria& proto) {
  StoppingOptions options;
  if (proto.has_max_tokens()) options.max_tokens = proto.max_tokens();
  options.stop.assign(proto.stop().begin(), proto.stop().end());
  options.stop_token_ids = ToIds(proto.stop_token_ids());
  options.ignore_eos = proto.ignore_eos();
  return options;
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

Request ToRequest(const v1::GenerateRequest& proto) {
  Request request;
  request.kind = RequestKind::kGenerate;
  request.id = proto.request_id();
  if (proto.has_text()) request.text = proto.text();
  if (proto.has_token_ids()) request.token_ids = ToIds(proto.token_ids().ids());
  request.sampling = ToSampling(proto.sampling());
  request.stopping = ToStopping(proto.stopping());
  request.logprobs = proto.output().logprobs();
  request.top_logprobs = proto.output().top_logprobs();
  request.echo = proto.output().echo();
  return request;
}

Request ToRequest(const v1::ScoreRequest& proto) {
  Request request;
  request.kind = RequestKind::kScore;
  if (proto.has_text()) request.text = proto.text();
  if (proto.has_token_ids()) request.token_ids = ToIds(proto.token_ids().ids());
  request.logprobs = true;
  request.top_logprobs = proto.top_logprobs();
  return request;
}

void SetCall(const Pass& pass, const grpc::CallbackServerContext& context, Request* request) {
  request->id = pass.request_id.id;
  request->origin = pass.origin;
  request->client_limits = pass.limits;
  const std::chrono::system_clock::time_point deadline = context.deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    request->deadline = absl::FromChrono(deadline);
  }
}

void SetTokenLogprob(const OutputToken& token, v1::TokenLogprob* proto) {
  if (token.logprob.has_value()) proto->set_logprob(*token.logprob);
  for (const TopToken& top : token.top) {
    v1::TopLogprob* entry = proto->add_top();
    entry->set_token_id(static_cast<uint32_t>(top.token));
    entry->set_logprob(top.logprob);
  }
}

void SetUsage(const Outcome& outcome, v1::Usage* proto) {
  proto->set_prompt_tokens(static_cast<uint32_t>(outcome.prompt_tokens));
  proto->set_output_tokens(static_cast<uint32_t>(outcome.output_tokens));
}

void SetTimings(const Outcome& outcome, v1::Timings* proto) {
  proto->set_queue_seconds(outcome.queue_seconds);
  proto->set_prefill_seconds(outcome.prefill_seconds);
  proto->set_decode_seconds(outcome.decode_seconds);
  proto->set_time_to_first_token_seconds(outcome.first_token_seconds);
}

void SetFinished(const Outcome& outcome, v1::Finished* proto) {
  proto->set_reason(ToProto(outcome.reason));
  if (outcome.stop_string.has_value()) {
    proto->set_stop(*outcome.stop_string);
  } else if (outcome.stop_token.has_value()) {
    proto->set_token_id(static_cast<uint32_t>(*outcome.stop_token));
  }
  SetUsage(outcome, proto->mutable_usage());
  SetTimings(outcome, proto->mutable_timings());
  proto->set_seed(outcome.seed);
  proto->set_request_id(outcome.request_id);
}

void SetModel(const EngineInfo& info, const ClientLimits& client, v1::GetModelResponse* proto) {
  proto->set_name(info.model_name);
  proto->set_model_type(info.model_type);
  proto->set_parameters(static_cast<uint64_t>(info.parameters));
  proto->set_hidden_size(static_cast<uint32_t>(info.hidden_size));
  proto->set_num_layers(static_cast<uint32_t>(info.num_layers));
  proto->set_vocab_size(static_cast<uint32_t>(info.vocab_size));
  proto->set_num_heads(static_cast<uint32_t>(info.num_heads));
  proto->set_num_kv_heads(static_cast<uint32_t>(info.num_kv_heads));
  proto->set_head_key_dim(static_cast<uint32_t>(info.head_key_dim));
  proto->set_head_value_dim(static_cast<uint32_t>(info.head_value_dim));
  proto->set_state_bytes(static_cast<uint64_t>(info.state_bytes));
  proto->set_weight_dtype(info.weight_dtype);
  proto->set_device(info.device);
  for (const int32_t id : info.eos_token_ids) proto->add_eos_token_ids(static_cast<uint32_t>(id));
  v1::Limits* limits = proto->mutable_limits();
  limits->set_max_prompt_tokens(
      static_cast<uint32_t>(std::min(info.max_prompt_tokens, client.max_prompt_tokens)));
  limits->set_max_output_tokens(
      static_cast<uint32_t>(std::min(info.max_output_tokens, client.max_output_tokens)));
  limits->set_max_text_bytes(static_cast<uint64_t>(info.max_text_bytes));
  limits->set_state_slots(static_cast<uint32_t>(info.state_slots));
  limits->set_max_waiting(static_cast<uint32_t>(info.max_waiting));
  limits->set_max_top_logprobs(kMaxTopLogprobs);
  proto->set_server_version(std::string(ServerVersion()));
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  std::string message(status.message().substr(0, kMaxMessageBytes));
  if (message.size() < status.message().size()) absl::StrAppend(&message, "...");
  return {static_cast<grpc::StatusCode>(status.code()), message};
}

}  // namespace sluice
