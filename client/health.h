// grpc.health.v1, asked.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace sluice {

// The status by name ("SERVING", "NOT_SERVING", "UNKNOWN") of a service, or with an empty name of
// the whole server. NotFound if the server knows no such service; otherwise the call's own errors.
absl::StatusOr<std::string> CheckHealth(const std::shared_ptr<grpc::Channel>& channel,
                                        const std::string& service, absl::Time deadline);

// Asks again until the answer is SERVING, and returns the last answer once `deadline` has passed.
// At least one answer is waited for.
absl::StatusOr<std::string> AwaitHealth(const std::shared_ptr<grpc::Channel>& channel,
                                        const std::string& service, absl::Time deadline);

}  // namespace sluice
