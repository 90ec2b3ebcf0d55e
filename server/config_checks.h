// What a configuration has to be, before anything is done with it.
#pragma once

#include "absl/status/status.h"
#include "server/server_config.h"

namespace sluice {

// InvalidArgument: names the flag whose value is out of range, or at odds with another's.
absl::Status CheckServerConfig(const ServerConfig& config);

// Whether keys come over a network that can read them.
bool ShowsKeysInPlaintext(const ServerConfig& config);

}  // namespace sluice
