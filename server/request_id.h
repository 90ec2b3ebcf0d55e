// What a call is named by in logs, and told its client as `x-request-id`.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "server/call_metadata.h"

namespace sluice {

struct RequestId {
  std::string id;       // fit for logs, whatever the status: made up if the client's is not
  absl::Status status;  // InvalidArgument: what is wrong with the client's
};

// `named` is the message's request_id; if it is empty the metadata's x-request-id is looked at, and
// if that is absent or empty a name is made up.
RequestId ResolveRequestId(const std::string& named, const CallMetadata& metadata);

}  // namespace sluice
