#include "client/backend.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/api_key.h"
#include "client/local_backend.h"
#include "client/remote_backend.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

// One request at a time is all that a command makes.
constexpr int32_t kLocalSlots = 1;

}  // namespace

std::string CheckConnection(const ConnectionOptions& options) {
  if (!options.local.empty()) {
    if (options.tls.enabled) return "--tls and --local exclude each other";
    if (!options.server.empty()) return "--server and --local exclude each other";
    return options.api_key_file.empty() ? "" : "--api-key-file and --local exclude each other";
  }
  std::string problem = CheckTlsOptions(options.tls);
  if (!problem.empty()) return problem;
  const bool local_only =
      !options.device.empty() || !options.dtype.empty() || options.threads.has_value();
  return local_only ? "--device, --dtype and --threads need --local" : "";
}

absl::StatusOr<EngineConfig> LocalConfig(const ConnectionOptions& options) {
  EngineConfig config;
  config.model_dir = options.local;
  if (!options.device.empty()) config.device = options.device;
  if (!options.dtype.empty()) config.dtype = options.dtype;
  const int64_t threads = options.threads.value_or(0);
  if (threads < 0 || threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads is ", threads, "; it must lie in [0, 1024]"));
  }
  config.threads = static_cast<int32_t>(threads);
  return config;
}

absl::StatusOr<std::shared_ptr<Backend>> MakeBackend(const ConnectionOptions& options) {
  if (options.local.empty()) {
    std::string key;
    if (!options.api_key_file.empty()) {
      SLUICE_ASSIGN_OR_RETURN(key, ReadApiKey(options.api_key_file));
    }
    SLUICE_ASSIGN_OR_RETURN(const auto channel, ConnectTo(options.server, options.tls));
    return std::make_shared<RemoteBackend>(channel, key);
  }
  SLUICE_ASSIGN_OR_RETURN(EngineConfig config, LocalConfig(options));
  config.state_slots = kLocalSlots;
  return std::make_shared<LocalBackend>(std::move(config));
}

}  // namespace sluice
