// A gRPC call at the gate: what it brings, and what its client is told of it.
#pragma once

#include <grpcpp/server_context.h>

#include "server/call_method.h"
#include "server/gate.h"

namespace sluice {

Pass PassGate(Gate* gate, CallMethod method, const grpc::CallbackServerContext& context);

// Initial metadata `x-request-id`; if the call was refused for its rate, trailing metadata
// `grpc-retry-pushback-ms`, by which gRPC's own retries are timed (gRFC A6). Before the call is
// answered.
void AnswerMetadata(const Pass& pass, grpc::CallbackServerContext* context);

}  // namespace sluice
