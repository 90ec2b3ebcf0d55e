// The engine's plain data to the messages that a server reads, and back.
#pragma once

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/backend.h"
#include "engine/request.h"
#include "sluice/v1/generation.pb.h"
#include "sluice/v1/model.pb.h"

namespace sluice {

// InvalidArgument if a text is not valid UTF-8, which no message can carry, or if a number does not
// fit its field.
absl::StatusOr<v1::GenerateRequest> ToGenerateRequest(const Request& request);
absl::StatusOr<v1::ScoreRequest> ToScoreRequest(const Request& request);

Output FromResponse(const v1::GenerateResponse& response);
Output FromResponse(const v1::ScoreResponse& response);
Outcome FromFinished(const v1::Finished& finished);
Outcome FromScored(const v1::ScoreResponse& response);
ModelDescription FromResponse(const v1::GetModelResponse& response);

absl::Status ToStatus(const grpc::Status& status);

// InvalidArgument naming `field` and the byte's offset.
absl::Status CheckUtf8(absl::string_view field, const std::string& text);

// InvalidArgument naming `field` unless 0 <= number < 2^32.
absl::StatusOr<uint32_t> ToUint32(absl::string_view field, int64_t number);

}  // namespace sluice
