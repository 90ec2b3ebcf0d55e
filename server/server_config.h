// What an operator decides on the command line, once: no environment variables, and nothing is
// mended in silence.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine_config.h"
#include "server/log.h"

namespace sluice {

// The defaults are those of the flags; config_checks.cc has the ranges.
struct ServerConfig {
  EngineConfig engine;
  std::string listen = "127.0.0.1:50051";         // host:port, or unix:path
  std::string metrics_listen = "127.0.0.1:9464";  // host:port; empty: off
  std::string admin_listen;                       // host:port, or unix:path; empty: off
  // Connections.
  int32_t max_connections = 10'000;
  int64_t max_traffic_memory = int64_t{1} << 30;  // bytes, beside the model and its states
  int32_t max_streams = 1024;                     // concurrent calls of one connection
  int64_t max_message_bytes = 0;                  // of a call; 0: what the largest prompt needs
  int32_t max_metadata_bytes = 16384;             // of a call's headers
  absl::Duration keepalive = absl::Seconds(60);   // how long one may be silent before it is pinged
  absl::Duration max_connection_idle = absl::Minutes(10);  // without a call
  absl::Duration max_connection_age = absl::InfiniteDuration();
  absl::Duration handshake_limit = absl::Seconds(10);  // until its first HTTP/2 settings
  // Files in PEM. Empty: no TLS, no client certificates.
  std::string tls_cert;
  std::string tls_key;
  std::string tls_client_ca;
  absl::Duration reload_interval = absl::Seconds(10);  // how often files are looked at
  std::string api_keys;                                // file; empty: none are asked for
  double client_rate = 0;                              // calls of a client in a second; 0: no limit
  int64_t max_client_requests = 512;                   // calls of a client at once; 0: no limit
  bool reflection = true;
  absl::Duration drain_limit = absl::Seconds(30);  // for running requests after SIGTERM
  absl::Duration stuck_after = absl::Seconds(30);  // a longer step turns health to NOT_SERVING
  LogFormat log_format = LogFormat::kText;
  LogLevel log_level = LogLevel::kInfo;
};

struct CommandLine {
  enum class Action : uint8_t { kServe, kHelp, kVersion };
  Action action = Action::kServe;
  ServerConfig config;  // valid, if the action is kServe
};

// `arguments` are those after the program's name: --flag=value, --flag value; a name may be written
// with - or _. InvalidArgument: what is unknown, malformed or out of range, by the flag's name.
absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments);

// Every flag with its value, as ParseCommandLine left them.
std::vector<std::pair<std::string, std::string>> FlagValues();

// What --help prints.
std::string HelpText();

}  // namespace sluice
