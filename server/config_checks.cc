#include "server/config_checks.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/status_macros.h"
#include "server/flag_table.h"

namespace sluice {
namespace {

constexpr int64_t kMaxMessageBytes = int64_t{2047} << 20;  // what gRPC can count
constexpr absl::Duration kDay = absl::Hours(24);

absl::Status CheckRange(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, "=", value, " is outside [", low, ", ", high, "]"));
}

absl::Status CheckDuration(const char* flag, absl::Duration value, absl::Duration low,
                           absl::Duration high = kDay) {
  if (value >= low && value <= high) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, "=", absl::FormatDuration(value),
                                                 " is outside [", absl::FormatDuration(low), ", ",
                                                 absl::FormatDuration(high), "]"));
}

// Infinite is no limit.
absl::Status CheckLimit(const char* flag, absl::Duration value) {
  if (value == absl::InfiniteDuration()) return absl::OkStatus();
  return CheckDuration(flag, value, absl::Seconds(1));
}

absl::Status CheckHostPort(const char* flag, std::string_view address) {
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

bool IsUnixPath(const std::string& address) { return absl::StartsWith(address, "unix:"); }

bool IsLoopback(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  return host == "localhost" || host == "[::1]" ||
         (absl::StartsWith(host, "127.") &&
          host.find_first_not_of("0123456789.") == std::string::npos);
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

absl::Status CheckConnections(const ServerConfig& config) {
  SLUICE_RETURN_IF_ERROR(CheckRange("--max-connections", config.max_connections, 1, 1'000'000));
  SLUICE_RETURN_IF_ERROR(CheckRange("--max-traffic-memory", config.max_traffic_memory,
                                    int64_t{64} << 20, int64_t{1} << 40));
  SLUICE_RETURN_IF_ERROR(CheckRange("--max-streams", config.max_streams, 1, 1'000'000));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("--max-message-bytes", config.max_message_bytes, 0, kMaxMessageBytes));
  SLUICE_RETURN_IF_ERROR(
      CheckRange("--max-metadata-bytes", config.max_metadata_bytes, 1024, 1 << 20));
  SLUICE_RETURN_IF_ERROR(CheckDuration("--keepalive", config.keepalive, absl::Seconds(1)));
  SLUICE_RETURN_IF_ERROR(CheckLimit("--max-connection-idle", config.max_connection_idle));
  SLUICE_RETURN_IF_ERROR(CheckLimit("--max-connection-age", config.max_connection_age));
  return CheckDuration("--handshake-limit", config.handshake_limit, absl::Milliseconds(100),
                       absl::Hours(1));
}

// Who may call how much.
absl::Status CheckClientLimits(const ServerConfig& config) {
  SLUICE_RETURN_IF_ERROR(
      CheckDuration("--reload-interval", config.reload_interval, absl::Milliseconds(100)));
  const bool rate =
      config.client_rate == 0 || (config.client_rate >= 0.001 && config.client_rate <= 1e6);
  if (!rate) {
    return absl::InvalidArgumentError(absl::StrCat("--client-rate=", config.client_rate,
                                                   " is neither 0 nor in [0.001, 1000000]"));
  }
  return CheckRange("--max-client-requests", config.max_client_requests, 0, 1'000'000);
}

absl::Status CheckTls(const ServerConfig& config) {
  if (config.tls_cert.empty() != config.tls_key.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        config.tls_cert.empty() ? "--tls-key needs --tls-cert" : "--tls-cert needs --tls-key",
        " too: a certificate and its key"));
  }
  if (!config.tls_client_ca.empty() && config.tls_cert.empty()) {
    return absl::InvalidArgumentError("--tls-client-ca needs --tls-cert and --tls-key too");
  }
  return absl::OkStatus();
}

absl::Status CheckAdmin(const ServerConfig& config) {
  const std::string& address = config.admin_listen;
  if (address.empty() || IsUnixPath(address)) return absl::OkStatus();
  SLUICE_RETURN_IF_ERROR(CheckHostPort("--admin-listen", address));
  if (IsLoopback(address) || !config.tls_client_ca.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "--admin-listen=", address,
      ": not a loopback address (127.0.0.0/8, [::1], localhost) nor unix:path; elsewhere the admin "
      "service needs --tls-client-ca"));
}

}  // namespace

absl::Status CheckServerConfig(const ServerConfig& config) {
  if (config.engine.model_dir.empty()) {
    return absl::InvalidArgumentError("--model is required: a Hugging Face model directory");
  }
  SLUICE_RETURN_IF_ERROR(CheckEngineConfig(config.engine));
  if (!IsUnixPath(config.listen)) {
    SLUICE_RETURN_IF_ERROR(CheckHostPort("--listen", config.listen));
  }
  if (!config.metrics_listen.empty()) {
    SLUICE_RETURN_IF_ERROR(CheckHostPort("--metrics-listen", config.metrics_listen));
  }
  SLUICE_RETURN_IF_ERROR(CheckConnections(config));
  SLUICE_RETURN_IF_ERROR(CheckClientLimits(config));
  SLUICE_RETURN_IF_ERROR(CheckTls(config));
  SLUICE_RETURN_IF_ERROR(CheckAdmin(config));
  SLUICE_RETURN_IF_ERROR(CheckDuration("--drain-limit", config.drain_limit, absl::ZeroDuration()));
  return CheckDuration("--stuck-after", config.stuck_after, absl::Milliseconds(100));
}

bool ShowsKeysInPlaintext(const ServerConfig& config) {
  return !config.api_keys.empty() && config.tls_cert.empty() && !IsUnixPath(config.listen) &&
         !IsLoopback(config.listen);
}

}  // namespace sluice
