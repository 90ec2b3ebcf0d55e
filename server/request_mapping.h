// Between the protos and the engine's plain data. The engine checks ranges; nothing is lost or
// changed here.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "server/gate.h"
#include "sluice/v1/generation.pb.h"
#include "sluice/v1/model.pb.h"

namespace sluice {

Request ToRequest(const v1::GenerateRequest& proto);
Request ToRequest(const v1::ScoreRequest& proto);

// Name, origin and limits of the pass, and the call's deadline.
void SetCall(const Pass& pass, const grpc::CallbackServerContext& context, Request* request);

void SetTokenLogprob(const OutputToken& token, v1::TokenLogprob* proto);
void SetUsage(const Outcome& outcome, v1::Usage* proto);
void SetTimings(const Outcome& outcome, v1::Timings* proto);
void SetFinished(const Outcome& outcome, v1::Finished* proto);
// With the client's limits, where they are less than the server's.
void SetModel(const EngineInfo& info, const ClientLimits& client, v1::GetModelResponse* proto);

// The codes are the same by design. The message is cut at 1 KiB: clients take 8 KiB of trailers.
grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace sluice
