#include "server/server_config.h"

#include <string_view>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "server/config_checks.h"
#include "server/flag_table.h"

ABSL_FLAG(std::string, model, "", "Hugging Face model directory to serve. Required.");
ABSL_FLAG(std::string, model_name, "", "Name to serve it under; empty: the directory's name.");
ABSL_FLAG(std::string, listen, "127.0.0.1:50051",
          "Where gRPC listens: host:port, [ipv6]:port or unix:path; [::] is all of IPv6 and IPv4. "
          "Without --api-keys or --tls-client-ca anyone who reaches it is served.");
ABSL_FLAG(std::string, metrics_listen, "127.0.0.1:9464",
          "Where Prometheus metrics are served over HTTP, at /metrics; empty: nowhere.");
ABSL_FLAG(std::string, admin_listen, "",
          "Where the admin service listens: unix:path or host:port on loopback, or elsewhere with "
          "--tls-client-ca; empty: nowhere.");
ABSL_FLAG(std::string, device, "auto", "auto (a GPU if there is one), cpu, cuda or cuda:N.");
ABSL_FLAG(std::string, dtype, "auto", "Of weights: auto (bfloat16), bfloat16 or float32.");
ABSL_FLAG(std::string, weight_type, "checkpoint",
          "What the large matrices of projections are stored as: checkpoint (as --dtype says) or "
          "fp8, rounded to e4m3 with a scale a row as they are loaded.");
ABSL_FLAG(std::string, state_type, "float32",
          "What states are stored as: float32, float16 or int8, with a scale a row; those of Mamba "
          "stay float32, and those of linear_attn, which never decay, must.");
ABSL_FLAG(int32_t, state_ring, 0,
          "Tokens that a decoding state is behind by before it is written, 1 to 32; 0: none.");
ABSL_FLAG(int32_t, threads, 0, "CPU threads, 1 to 1024; 0: as many as there are.");
ABSL_FLAG(std::string, deterministic, "auto",
          "Whether a request with a seed gets the same tokens whatever else is in the batch, to "
          "the last one: true, false or auto (on the CPU; on a GPU it is slower). Needs states of "
          "float32.");
ABSL_FLAG(
    int32_t, slots, 0,
    "Requests that run at once, 1 to 4096; 0: 64 on the CPU, 256 on a GPU, or as many as fit.");
ABSL_FLAG(int32_t, max_waiting, 1024, "Requests that wait for a slot, 0 to 1,000,000.");
ABSL_FLAG(int64_t, max_waiting_tokens, int64_t{1} << 22,
          "Prompt tokens of all requests that wait for a slot, 1 to 2^40; one is let wait anyway.");
ABSL_FLAG(absl::Duration, max_queue_time, absl::Seconds(60),
          "How long a request may wait for a slot, more than 0, inf for any time.");
ABSL_FLAG(int32_t, max_prompt_tokens, 65536, "Tokens of a prompt, 1 to 16,777,216.");
ABSL_FLAG(int32_t, max_output_tokens, 65536, "Tokens that a request may ask for, 1 to 16,777,216.");
ABSL_FLAG(int64_t, max_text_bytes, int64_t{1} << 20, "Bytes of a text, 1 to 1 GiB.");
ABSL_FLAG(
    int32_t, max_step_tokens, 0,
    "Tokens of a step, 65 to 65536 and at least 64 more than slots; 0: 512 on the CPU, 4096 on a "
    "GPU, or what the slots need.");
ABSL_FLAG(double, memory_fraction, 0.9, "Of the device's free memory that may be taken, (0, 1].");
ABSL_FLAG(int32_t, max_connections, 10'000,
          "Open connections, 1 to 1,000,000; one more is closed at once.");
ABSL_FLAG(
    int64_t, max_traffic_memory, int64_t{1} << 30,
    "Bytes that connections and calls may take beside the model and its states, 64 MiB to 1 TiB, "
    "and at most three quarters of the memory that is left; beyond it the connection that sends "
    "fastest is ended.");
ABSL_FLAG(int32_t, max_streams, 1024, "Concurrent calls of one connection, 1 to 1,000,000.");
ABSL_FLAG(int64_t, max_message_bytes, 0,
          "Bytes of a call's message, 1 to 2047 MiB; 0: what the largest prompt needs.");
ABSL_FLAG(int32_t, max_metadata_bytes, 16384, "Bytes of a call's headers, 1024 to 1 MiB.");
ABSL_FLAG(
    absl::Duration, keepalive, absl::Seconds(60),
    "A connection that is silent this long is pinged, and closed without an answer in as long "
    "again, or in 20 s; 1s to 24h.");
ABSL_FLAG(absl::Duration, max_connection_idle, absl::Minutes(10),
          "A connection that has no call for this long is closed; 1s to 24h, or inf.");
ABSL_FLAG(absl::Duration, max_connection_age, absl::InfiniteDuration(),
          "A connection of this age takes no new calls and is closed after its last; 1s to 24h, or "
          "inf.");
ABSL_FLAG(absl::Duration, handshake_limit, absl::Seconds(10),
          "How long a new connection may take for TLS and its first HTTP/2 settings; 100ms to 1h.");
ABSL_FLAG(absl::Duration, stall_limit, absl::Seconds(60),
          "How long a client may leave its stream unread, more than 0.");
ABSL_FLAG(std::string, tls_cert, "",
          "PEM file of the server's certificate, with its chain: turns TLS on. Empty: plaintext.");
ABSL_FLAG(std::string, tls_key, "", "PEM file of that certificate's private key.");
ABSL_FLAG(
    std::string, tls_client_ca, "",
    "PEM file of the authorities whose client certificates are taken; clients without one are "
    "refused. Empty: clients need none.");
ABSL_FLAG(std::string, api_keys, "",
          "JSON file of the API keys that are let in, read anew when it changes; empty: no key is "
          "asked for.");
ABSL_FLAG(absl::Duration, reload_interval, absl::Seconds(10),
          "How often files that may change are looked at, 100ms to 24h: certificates, API keys.");
ABSL_FLAG(double, client_rate, 0,
          "Calls of one client in a second, 0.001 to 1,000,000, with bursts of one second's; 0: no "
          "limit. A client is the tenant of an API key, else an address.");
ABSL_FLAG(int64_t, max_client_requests, 512,
          "Calls of one client at once, 1 to 1,000,000; 0: no limit.");
ABSL_FLAG(bool, reflection, true, "Whether clients can ask what services there are.");
ABSL_FLAG(absl::Duration, drain_limit, absl::Seconds(30),
          "How long running requests may go on after SIGTERM, 0s to 24h.");
ABSL_FLAG(absl::Duration, stuck_after, absl::Seconds(30),
          "A step that takes longer turns health to NOT_SERVING; 100ms to 24h.");
ABSL_FLAG(std::string, log_format, "text", "text or json.");
ABSL_FLAG(std::string, log_level, "info", "debug, info, warning or error.");

namespace sluice {
namespace {

// In the order in which they are explained and printed.
constexpr std::string_view kFlagNames[] = {
    "model",
    "model_name",
    "listen",
    "metrics_listen",
    "admin_listen",
    "device",
    "dtype",
    "weight_type",
    "threads",
    "deterministic",
    "state_type",
    "state_ring",
    "slots",
    "max_waiting",
    "max_waiting_tokens",
    "max_queue_time",
    "max_prompt_tokens",
    "max_output_tokens",
    "max_text_bytes",
    "max_step_tokens",
    "memory_fraction",
    "max_connections",
    "max_traffic_memory",
    "max_streams",
    "max_message_bytes",
    "max_metadata_bytes",
    "keepalive",
    "max_connection_idle",
    "max_connection_age",
    "handshake_limit",
    "stall_limit",
    "tls_cert",
    "tls_key",
    "tls_client_ca",
    "api_keys",
    "reload_interval",
    "client_rate",
    "max_client_requests",
    "reflection",
    "drain_limit",
    "stuck_after",
    "log_format",
    "log_level",
};

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
  engine.weight_type = absl::GetFlag(FLAGS_weight_type);
  engine.threads = absl::GetFlag(FLAGS_threads);
  engine.deterministic = absl::GetFlag(FLAGS_deterministic);
  engine.state_type = absl::GetFlag(FLAGS_state_type);
  engine.state_ring = absl::GetFlag(FLAGS_state_ring);
  engine.state_slots = absl::GetFlag(FLAGS_slots);
  engine.max_waiting = absl::GetFlag(FLAGS_max_waiting);
  engine.max_waiting_tokens = absl::GetFlag(FLAGS_max_waiting_tokens);
  engine.max_queue_time = absl::GetFlag(FLAGS_max_queue_time);
  engine.max_prompt_tokens = absl::GetFlag(FLAGS_max_prompt_tokens);
  engine.max_output_tokens = absl::GetFlag(FLAGS_max_output_tokens);
  engine.max_text_bytes = absl::GetFlag(FLAGS_max_text_bytes);
  engine.max_step_tokens = absl::GetFlag(FLAGS_max_step_tokens);
  engine.memory_fraction = absl::GetFlag(FLAGS_memory_fraction);
  engine.stall_limit = absl::GetFlag(FLAGS_stall_limit);
  return engine;
}

// But what has to be parsed.
ServerConfig ServerConfigFromFlags() {
  ServerConfig config;
  config.engine = EngineConfigFromFlags();
  config.listen = absl::GetFlag(FLAGS_listen);
  config.metrics_listen = absl::GetFlag(FLAGS_metrics_listen);
  config.admin_listen = absl::GetFlag(FLAGS_admin_listen);
  config.max_connections = absl::GetFlag(FLAGS_max_connections);
  config.max_traffic_memory = absl::GetFlag(FLAGS_max_traffic_memory);
  config.max_streams = absl::GetFlag(FLAGS_max_streams);
  config.max_message_bytes = absl::GetFlag(FLAGS_max_message_bytes);
  config.max_metadata_bytes = absl::GetFlag(FLAGS_max_metadata_bytes);
  config.keepalive = absl::GetFlag(FLAGS_keepalive);
  config.max_connection_idle = absl::GetFlag(FLAGS_max_connection_idle);
  config.max_connection_age = absl::GetFlag(FLAGS_max_connection_age);
  config.handshake_limit = absl::GetFlag(FLAGS_handshake_limit);
  config.tls_cert = absl::GetFlag(FLAGS_tls_cert);
  config.tls_key = absl::GetFlag(FLAGS_tls_key);
  config.tls_client_ca = absl::GetFlag(FLAGS_tls_client_ca);
  config.api_keys = absl::GetFlag(FLAGS_api_keys);
  config.reload_interval = absl::GetFlag(FLAGS_reload_interval);
  config.client_rate = absl::GetFlag(FLAGS_client_rate);
  config.max_client_requests = absl::GetFlag(FLAGS_max_client_requests);
  config.reflection = absl::GetFlag(FLAGS_reflection);
  config.drain_limit = absl::GetFlag(FLAGS_drain_limit);
  config.stuck_after = absl::GetFlag(FLAGS_stuck_after);
  return config;
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
    SLUICE_RETURN_IF_ERROR(SetFlag(kFlagNames, arguments, &i));
  }
  ServerConfig& config = result.config;
  config = ServerConfigFromFlags();
  SLUICE_ASSIGN_OR_RETURN(config.log_format, ParseLogFormat(absl::GetFlag(FLAGS_log_format)));
  SLUICE_ASSIGN_OR_RETURN(config.log_level, ParseLogLevel(absl::GetFlag(FLAGS_log_level)));
  SLUICE_RETURN_IF_ERROR(CheckServerConfig(config));
  return result;
}

std::vector<std::pair<std::string, std::string>> FlagValues() { return ValuesOf(kFlagNames); }

std::string HelpText() {
  return absl::StrCat(
      "sluice-server: serves a gated linear attention model over gRPC.\n\n"
      "  sluice-server --model DIR [--flag=value ...]\n\n"
      "SIGTERM or SIGINT finishes what runs and exits with 0; a second one exits at once.\n"
      "Exit codes: 0 ended as asked, 1 could not start, 2 bad command line.\n\n",
      HelpOf(kFlagNames), "  --help\n      Prints this.\n  --version\n      Prints the version.\n");
}

}  // namespace sluice
