#include "server/server_config.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "absl/flags/commandlineflag.h"
#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/status_macros.h"

ABSL_FLAG(std::string, model, "", "Hugging Face model directory to serve. Required.");
ABSL_FLAG(std::string, model_name, "", "Name to serve it under; empty: the directory's name.");
ABSL_FLAG(std::string, listen, "127.0.0.1:50051",
          "Where gRPC listens: host:port, [ipv6]:port or unix:path. There is no authentication: "
          "keep it on loopback or behind a proxy.");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:9464",
          "Where Prometheus metrics are served over HTTP, at /metrics; empty: nowhere.");
ABSL_FLAG(std::string, device, "auto", "auto (a GPU if there is one), cpu, cuda or cuda:N.");
ABSL_FLAG(std::string, dtype, "auto", "Of weights: auto (bfloat16), bfloat16 or float32.");
ABSL_FLAG(int32_t, threads, 0, "CPU threads, 1 to 1024; 0: as many as there are.");
ABSL_FLAG(
    int32_t, slots, 0,
    "Requests that run at once, 1 to 4096; 0: 64 on the CPU, 256 on a GPU, or as many as fit.");
ABSL_FLAG(int32_t, max_waiting, 1024, "Requests that wait for a slot, 0 to 1,000,000.");
ABSL_FLAG(int32_t, max_prompt_tokens, 65536, "Tokens of a prompt, 1 to 16,777,216.");
ABSL_FLAG(int32_t, max_output_tokens, 65536, "Tokens that a request may ask for, 1 to 16,777,216.");
ABSL_FLAG(int64_t, max_text_bytes, int64_t{1} << 20, "Bytes of a text, 1 to 1 GiB.");
ABSL_FLAG(
    int32_t, max_step_tokens, 0,
    "Tokens of a step, 65 to 65536 and at least 64 more than slots; 0: 512 on the CPU, 4096 on a "
    "GPU, or what the slots need.");
ABSL_FLAG(double, memory_fraction, 0.9, "Of the device's free memory that may be taken, (0, 1].");
ABSL_FLAG(int32_t, max_streams, 1024, "Concurrent calls of one connection, 1 to 1,000,000.");
ABSL_FLAG(absl::Duration, keepalive, absl::Seconds(60),
          "A connection that is silent this long is pinged, and closed without an answer in 20 s; "
          "1s to 24h.");
ABSL_FLAG(absl::Duration, stall_limit, absl::Seconds(60),
          "How long a client may leave its stream unread, more than 0.");
ABSL_FLAG(absl::Duration, drain_limit, absl::Seconds(30),
          "How long running requests may go on after SIGTERM, 0s to 24h.");
ABSL_FLAG(absl::Duration, stuck_after, absl::Seconds(30),
          "A step that takes longer turns health to NOT_SERVING; 100ms to 24h.");
ABSL_FLAG(std::string, log_format, "text", "text or json.");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warning or error.");

namespace sluice {
namespace {

// In the order in which they are explained and printed.
constexpr std::array<std::string_view, 21> kFlagNames = {"model",
                                                         "model_name",
                                                         "listen",
                                                         "metrics_listen",
                                                         "device",
                                                         "dtype",
                                                         "threads",
                                                         "slots",
                                                         "max_waiting",
                                                         "max_prompt_tokens",
                                                         "max_output_tokens",
                                                         "max_text_bytes",
                                                         "max_step_tokens",
                                                         "memory_fraction",
                                                         "max_streams",
                                                         "keepalive",
                                                         "stall_limit",
                                                         "drain_limit",
                                                         "stuck_after",
                                                         "log_format",
                                                         "log_level"};

std::string Dashed(std::string_view name) {
  return absl::StrReplaceAll(absl::string_view(name.data(), name.size()), {{"_", "-"}});
}

absl::CommandLineFlag* FindFlag(const std::string& name) {
  if (std::find(kFlagNames.begin(), kFlagNames.end(), name) == kFlagNames.end()) return nullptr;
  return absl::FindCommandLineFlag(name);
}

// Sets the flag of arguments[*index], and moves *index past its value.
absl::Status SetFlag(const std::vector<std::string>& arguments, size_t* index) {
  const std::string& argument = arguments[(*index)++];
  if (!absl::StartsWith(argument, "--") || argument.size() == 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument '", argument, "': every option begins with --"));
  }
  const size_t equals = argument.find('=');
  const std::string given = argument.substr(0, equals);
  absl::CommandLineFlag* flag = FindFlag(absl::StrReplaceAll(given.substr(2), {{"-", "_"}}));
  if (flag == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("unknown flag ", given, "; --help lists all"));
  }
  if (equals == std::string::npos && *index == arguments.size()) {
    return absl::InvalidArgumentError(absl::StrCat(given, " needs a value"));
  }
  const std::string value =
      equals == std::string::npos ? arguments[(*index)++] : argument.substr(equals + 1);
  std::string error;
  if (flag->ParseFrom(value, &error)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(given, "=", value, ": not valid", error.empty() ? "" : ": ", error));
}

absl::Status CheckDuration(const char* flag, absl::Duration value, absl::Duration low) {
  const absl::Duration high = absl::Hours(24);
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, "=", absl::FormatDuration(value),
                                                 " is outside [", absl::FormatDuration(low), ", ",
                                                 absl::FormatDuration(high), "]"));
}

absl::Status CheckAddress(const char* flag, std::string_view address) {
  const size_t colon = address.rfind(':');
  int port = 0;
  if (colon != std::string_view::npos && colon > 0 &&
      absl::SimpleAtoi(absl::string_view(address.data() + colon + 1, address.size() - colon - 1),
                       &port) &&
      port >= 0 && port <= 65535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, "=", std::string(address), ": not host:port with a port of 0 to 65535"));
}

// The engine names its fields, which are flags here.
absl::Status CheckEngineConfig(const EngineConfig& config) {
  absl::Status status = ValidateEngineConfig(config);
  if (status.ok()) return status;
  const std::string message(status.message());
  const size_t name_end = message.find(' ');
  return absl::InvalidArgumentError(
      absl::StrCat("--", Dashed(message.substr(0, name_end)), message.substr(name_end)));
}

absl::Status CheckConfig(const ServerConfig& config) {
  if (config.engine.model_dir.empty()) {
    return absl::InvalidArgumentError("--model is required: a Hugging Face model directory");
  }
  SLUICE_RETURN_IF_ERROR(CheckEngineConfig(config.engine));
  if (!absl::StartsWith(config.listen, "unix:")) {
    SLUICE_RETURN_IF_ERROR(CheckAddress("--listen", config.listen));
  }
  if (!config.metrics_listen.empty()) {
    SLUICE_RETURN_IF_ERROR(CheckAddress("--metrics-listen", config.metrics_listen));
  }
  if (config.max_streams < 1 || config.max_streams > 1'000'000) {
    return absl::InvalidArgumentError(
        absl::StrCat("--max-streams=", config.max_streams, " is outside [1, 1000000]"));
  }
  SLUICE_RETURN_IF_ERROR(CheckDuration("--keepalive", config.keepalive, absl::Seconds(1)));
  SLUICE_RETURN_IF_ERROR(CheckDuration("--drain-limit", config.drain_limit, absl::ZeroDuration()));
  return CheckDuration("--stuck-after", config.stuck_after, absl::Milliseconds(100));
}

absl::StatusOr<LogFormat> ParseLogFormat(const std::string& name) {
  if (name == "text") return LogFormat::kText;
  if (name == "json") return LogFormat::kJson;
  return absl::InvalidArgumentError(absl::StrCat("--log-format=", name, ": not text or json"));
}

absl::StatusOr<LogLevel> ParseLogLevel(const std::string& name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "info") return LogLevel::kInfo;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return absl::InvalidArgumentError(
      absl::StrCat("--log-level=", name, ": not debug, info, warning or error"));
}

EngineConfig EngineConfigFromFlags() {
  EngineConfig engine;
  engine.model_dir = absl::GetFlag(FLAGS_model);
  engine.model_name = absl::GetFlag(FLAGS_model_name);
  engine.device = absl::GetFlag(FLAGS_device);
  engine.dtype = absl::GetFlag(FLAGS_dtype);
  engine.threads = absl::GetFlag(FLAGS_threads);
  engine.state_slots = absl::GetFlag(FLAGS_slots);
  engine.max_waiting = absl::GetFlag(FLAGS_max_waiting);
  engine.max_prompt_tokens = absl::GetFlag(FLAGS_max_prompt_tokens);
  engine.max_output_tokens = absl::GetFlag(FLAGS_max_output_tokens);
  engine.max_text_bytes = absl::GetFlag(FLAGS_max_text_bytes);
  engine.max_step_tokens = absl::GetFlag(FLAGS_max_step_tokens);
  engine.memory_fraction = absl::GetFlag(FLAGS_memory_fraction);
  engine.stall_limit = absl::GetFlag(FLAGS_stall_limit);
  return engine;
}

}  // namespace

absl::StatusOr<CommandLine> ParseCommandLine(const std::vector<std::string>& arguments) {
  CommandLine result;
  for (size_t i = 0; i < arguments.size();) {
    if (arguments[i] == "--help" || arguments[i] == "-h") {
      result.action = CommandLine::Action::kHelp;
      return result;
    }
    if (arguments[i] == "--version") {
      result.action = CommandLine::Action::kVersion;
      return result;
    }
    SLUICE_RETURN_IF_ERROR(SetFlag(arguments, &i));
  }
  ServerConfig& config = result.config;
  config.engine = EngineConfigFromFlags();
  config.listen = absl::GetFlag(FLAGS_listen);
  config.metrics_listen = absl::GetFlag(FLAGS_metrics_listen);
  config.max_streams = absl::GetFlag(FLAGS_max_streams);
  config.keepalive = absl::GetFlag(FLAGS_keepalive);
  config.drain_limit = absl::GetFlag(FLAGS_drain_limit);
  config.stuck_after = absl::GetFlag(FLAGS_stuck_after);
  SLUICE_ASSIGN_OR_RETURN(config.log_format, ParseLogFormat(absl::GetFlag(FLAGS_log_format)));
  SLUICE_ASSIGN_OR_RETURN(config.log_level, ParseLogLevel(absl::GetFlag(FLAGS_log_level)));
  SLUICE_RETURN_IF_ERROR(CheckConfig(config));
  return result;
}

std::vector<std::pair<std::string, std::string>> FlagValues() {
  std::vector<std::pair<std::string, std::string>> values;
  for (const std::string_view name : kFlagNames) {
    const absl::CommandLineFlag* flag = FindFlag(std::string(name));
    values.emplace_back(absl::StrCat("--", Dashed(name)), flag->CurrentValue());
  }
  return values;
}

std::string HelpText() {
  std::string text =
      "sluice-server: serves a gated linear attention model over gRPC.\n\n"
      "  sluice-server --model DIR [--flag=value ...]\n\n"
      "SIGTERM or SIGINT finishes what runs and exits with 0; a second one exits at once.\n"
      "Exit codes: 0 ended as asked, 1 could not start, 2 bad command line.\n\n";
  for (const std::string_view name : kFlagNames) {
    const absl::CommandLineFlag* flag = FindFlag(std::string(name));
    const std::string value = flag->DefaultValue();
    absl::StrAppend(&text, "  --", Dashed(name));
    if (!value.empty()) absl::StrAppend(&text, " (", value, ")");
    absl::StrAppend(&text, "\n      ", flag->Help(), "\n");
  }
  absl::StrAppend(&text, "  --help\n      Prints this.\n  --version\n      Prints the version.\n");
  return text;
}

}  // namespace sluice
