#include "server/call_entry.h"

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace sluice {

Pass PassGate(Gate* gate, CallMethod method, const grpc::CallbackServerContext& context) {
  return gate->Enter(method, context.client_metadata(), context.peer());
}

void AnswerMetadata(const Pass& pass, grpc::CallbackServerContext* context) {
  context->AddInitialMetadata("x-request-id", pass.request_id.id);
  if (pass.retry_after == absl::ZeroDuration()) return;
  const int64_t ms = absl::ToInt64Milliseconds(absl::Ceil(pass.retry_after, absl::Milliseconds(1)));
  context->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(ms));
}

}  // namespace sluice
