#include "tests/fuzz/call_checks.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>

#include "engine/utf8.h"
#include "google/protobuf/descriptor.h"
#include "kernels/check.h"

namespace sluice {
namespace {

constexpr size_t kMaxMessageBytes = 1024 + 3;  // server/request_mapping.h, and its dots

// Whether `path` ("sampling.seed") is a field of `root`, or one of its oneofs.
bool IsField(const google::protobuf::Descriptor* root, std::string_view path) {
  const size_t dot = path.find('.');
  const std::string name(path.substr(0, dot));
  if (dot == std::string_view::npos && root->FindOneofByName(name) != nullptr) return true;
  const google::protobuf::FieldDescriptor* field = root->FindFieldByName(name);
  if (field == nullptr || dot == std::string_view::npos) return field != nullptr;
  return field->message_type() != nullptr && IsField(field->message_type(), path.substr(dot + 1));
}

bool Lies(double value, double low, double high) { return value >= low && value <= high; }

void CheckSampling(const v1::SamplingParams& sampling, uint32_t vocab) {
  SLUICE_CHECK(Lies(sampling.temperature(), 0, 100) && sampling.top_k() <= vocab);
  SLUICE_CHECK(!sampling.has_top_p() || (sampling.top_p() > 0 && sampling.top_p() <= 1));
  SLUICE_CHECK(Lies(sampling.min_p(), 0, 1));
  SLUICE_CHECK(!sampling.has_repetition_penalty() ||
               (sampling.repetition_penalty() > 0 && sampling.repetition_penalty() <= 10));
  SLUICE_CHECK(Lies(sampling.presence_penalty(), -2, 2));
  SLUICE_CHECK(Lies(sampling.frequency_penalty(), -2, 2));
  SLUICE_CHECK(sampling.logit_bias_size() <= 1024);
  for (const auto& [id, bias] : sampling.logit_bias()) {
    SLUICE_CHECK(id < vocab && Lies(bias, -100, 100));
  }
}

void CheckLogprob(const v1::TokenLogprob& token, uint32_t top, bool has_value) {
  SLUICE_CHECK(token.has_logprob() == has_value);
  SLUICE_CHECK(!has_value || token.logprob() <= 0);  // false for NaN
  SLUICE_CHECK(token.top_size() == (has_value ? static_cast<int>(top) : 0));
  for (int i = 0; i < token.top_size(); ++i) {
    SLUICE_CHECK(token.top(i).logprob() <= 0);
    SLUICE_CHECK(i == 0 || token.top(i).logprob() <= token.top(i - 1).logprob());
  }
}

void CheckFinished(const v1::GenerateRequest& request, const EngineInfo& limits,
                   const v1::Finished& finished) {
  const uint32_t max_tokens = request.stopping().has_max_tokens()
                                  ? request.stopping().max_tokens()
                                  : static_cast<uint32_t>(std::min(16, limits.max_output_tokens));
  const v1::Usage& usage = finished.usage();
  SLUICE_CHECK(usage.prompt_tokens() >= 1);
  SLUICE_CHECK(usage.prompt_tokens() <= static_cast<uint32_t>(limits.max_prompt_tokens));
  SLUICE_CHECK(usage.output_tokens() >= 1 && usage.output_tokens() <= max_tokens);
  switch (finished.reason()) {
    case v1::FINISH_REASON_LENGTH:
      SLUICE_CHECK(usage.output_tokens() == max_tokens);
      SLUICE_CHECK(finished.stopped_by_case() == v1::Finished::STOPPED_BY_NOT_SET);
      break;
    case v1::FINISH_REASON_STOP:
      SLUICE_CHECK(finished.stopped_by_case() != v1::Finished::STOPPED_BY_NOT_SET);
      break;
    default:
      SLUICE_CHECK(false);  // nobody cancelled it
  }
  if (finished.has_stop()) {
    const auto& stops = request.stopping().stop();
    SLUICE_CHECK(std::find(stops.begin(), stops.end(), finished.stop()) != stops.end());
  }
  SLUICE_CHECK(!request.sampling().has_seed() || finished.seed() == request.sampling().seed());
  SLUICE_CHECK(!finished.request_id().empty());
  SLUICE_CHECK(request.request_id().empty() || finished.request_id() == request.request_id());
  for (const double seconds :
       {finished.timings().queue_seconds(), finished.timings().prefill_seconds(),
        finished.timings().decode_seconds(), finished.timings().time_to_first_token_seconds()}) {
    SLUICE_CHECK(seconds >= 0 && std::isfinite(seconds));
  }
}

// All messages as one.
v1::GenerateResponse Whole(const std::vector<v1::GenerateResponse>& messages) {
  v1::GenerateResponse whole;
  for (size_t i = 0; i < messages.size(); ++i) {
    SLUICE_CHECK(messages[i].has_finished() == (i + 1 == messages.size()));
    const std::string text = whole.text() + messages[i].text();
    whole.MergeFrom(messages[i]);
    whole.set_text(text);
  }
  return whole;
}

// Whether the message fits the code, and names the field.
bool SaysWhy(const grpc::Status& status) {
  const std::string& message = status.error_message();
  switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
      return message.find("sluice.v1.GenerateRequest") != std::string::npos ||
             IsField(v1::GenerateRequest::descriptor(),
                     std::string_view(message).substr(0, message.find_first_of(" :")));
    case grpc::StatusCode::RESOURCE_EXHAUSTED:  // by a pattern of the tokenizer
      return message.rfind("text: ", 0) == 0;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return message.find("deadline") != std::string::npos;
    default:
      return false;
  }
}

}  // namespace

void CheckRefusal(const grpc::Status& status) {
  SLUICE_CHECK(status.error_message().size() <= kMaxMessageBytes);
  SLUICE_CHECK(SaysWhy(status));
}

void CheckAccepted(const v1::GenerateRequest& request, const EngineInfo& limits) {
  const auto vocab = static_cast<uint32_t>(limits.vocab_size);
  SLUICE_CHECK(request.prompt_case() != v1::GenerateRequest::PROMPT_NOT_SET);
  SLUICE_CHECK(request.token_ids().ids_size() <= limits.max_prompt_tokens);
  SLUICE_CHECK(static_cast<int64_t>(request.text().size()) <= limits.max_text_bytes);
  for (const uint32_t id : request.token_ids().ids()) SLUICE_CHECK(id < vocab);
  CheckSampling(request.sampling(), vocab);
  const v1::StoppingCriteria& stopping = request.stopping();
  SLUICE_CHECK(stopping.max_tokens() <= static_cast<uint32_t>(limits.max_output_tokens));
  SLUICE_CHECK(stopping.stop_size() <= 16 && stopping.stop_token_ids_size() <= 64);
  for (const std::string& stop : stopping.stop()) SLUICE_CHECK(Lies(stop.size(), 1, 256));
  for (const uint32_t id : stopping.stop_token_ids()) SLUICE_CHECK(id < vocab);
  SLUICE_CHECK(request.output().top_logprobs() <= 20);
  SLUICE_CHECK(request.output().logprobs() || request.output().top_logprobs() == 0);
  SLUICE_CHECK(request.request_id().size() <= 128);
}

void CheckStream(const v1::GenerateRequest& request, const EngineInfo& limits,
                 const std::vector<v1::GenerateResponse>& messages) {
  SLUICE_CHECK(!messages.empty());
  const v1::GenerateResponse whole = Whole(messages);
  CheckFinished(request, limits, whole.finished());
  const v1::OutputOptions& output = request.output();
  const uint32_t prompt = output.echo() ? whole.finished().usage().prompt_tokens() : 0;
  const uint32_t tokens = prompt + whole.finished().usage().output_tokens();
  SLUICE_CHECK(whole.token_ids_size() == static_cast<int>(tokens));
  for (const uint32_t id : whole.token_ids()) {
    SLUICE_CHECK(id < static_cast<uint32_t>(limits.vocab_size));
  }
  SLUICE_CHECK(whole.logprobs_size() == (output.logprobs() ? static_cast<int>(tokens) : 0));
  for (int i = 0; i < whole.logprobs_size(); ++i) {
    CheckLogprob(whole.logprobs(i), output.top_logprobs(), !output.echo() || i > 0);
  }
  if (output.echo()) return;
  for (const std::string& stop : request.stopping().stop()) {
    SLUICE_CHECK(whole.text().find(stop) == std::string::npos);
  }
}

}  // namespace sluice
