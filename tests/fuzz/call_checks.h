// What holds of the answer to a Generate call, whatever was asked.
#pragma once

#include <grpcpp/support/status.h>

#include <vector>

#include "engine/engine.h"
#include "sluice/v1/generation.pb.h"

namespace sluice {

// Of a call that the engine did not take: a canonical code and a message that names the field, or
// what is wrong with all of it.
void CheckRefusal(const grpc::Status& status);

// Of a call that the engine took: every field lies in the range that generation.proto states.
void CheckAccepted(const v1::GenerateRequest& request, const EngineInfo& limits);

// Of a call that ended by itself, read to its end.
void CheckStream(const v1::GenerateRequest& request, const EngineInfo& limits,
                 const std::vector<v1::GenerateResponse>& messages);

}  // namespace sluice
