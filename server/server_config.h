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

struct ServerConfig {
  EngineConfig engine;
  std::string listen;          // host:port, or unix:path
  std::string metrics_listen;  // host:port; empty: off
  int32_t max_streams = 0;     // concurrent calls of one connection
  absl::Duration keepalive;    // how long a connection may be silent before it is pinged
  absl::Duration drain_limit;  // how long running requests may go on after SIGTERM
  absl::Duration stuck_after;  // how long a step may take before health says NOT_SERVING
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
