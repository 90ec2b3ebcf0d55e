#include "server/request_log.h"

#include <string>

#include "server/origin_log.h"
#include "server/outcome_name.h"

namespace sluice {
namespace {

bool ServerAtFault(absl::StatusCode code) {
  return code == absl::StatusCode::kInternal || code == absl::StatusCode::kUnknown ||
         code == absl::StatusCode::kDataLoss || code == absl::StatusCode::kUnimplemented;
}

}  // namespace

LogFields RequestLogFields(const Outcome& outcome) {
  LogFields fields;
  fields.Add("id", outcome.request_id);
  AddOrigin(outcome.origin, &fields);
  fields.Add("kind", KindName(outcome.kind))
      .Add("prompt_tokens", outcome.prompt_tokens)
      .Add("output_tokens", outcome.output_tokens)
      .AddSeconds("queue_seconds", outcome.queue_seconds)
      .AddSeconds("prefill_seconds", outcome.prefill_seconds)
      .AddSeconds("decode_seconds", outcome.decode_seconds)
      .AddSeconds("first_token_seconds", outcome.first_token_seconds)
      .Add("outcome", OutcomeName(outcome));
  if (outcome.status.ok()) return fields;
  return fields.Add("code", absl::StatusCodeToString(outcome.status.code()))
      .Add("message", std::string(outcome.status.message().substr(0, 512)));
}

void LogRequest(const Outcome& outcome) {
  const LogLevel level =
      ServerAtFault(outcome.status.code()) ? LogLevel::kWarning : LogLevel::kInfo;
  Log(level, "request", RequestLogFields(outcome));
}

}  // namespace sluice
