#include "server/serve.h"

#include <signal.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "kernels/cpu_memory.h"
#include "server/active_calls.h"
#include "server/admin_server.h"
#include "server/api_key_file.h"
#include "server/config_checks.h"
#include "server/delivery_thread.h"
#include "server/descriptor_limit.h"
#include "server/gate.h"
#include "server/grpc_server.h"
#include "server/health.h"
#include "server/metrics.h"
#include "server/metrics_listener.h"
#include "server/server_metrics.h"
#include "server/standard_descriptors.h"
#include "server/stop_signals.h"
#include "server/telemetry.h"
#include "server/tls.h"
#include "server/traffic_guard.h"
#include "server/version.h"

namespace sluice {
namespace {

// For what remains when every request has ended: answers on their way, open health watches.
constexpr absl::Duration kLastAnswers = absl::Seconds(2);
constexpr absl::Duration kShutdownGrace = absl::Milliseconds(100);
constexpr int64_t kOtherDescriptors = 256;  // files, other ports, gRPC's own
constexpr char kApiKeys[] = "api_keys";     // what metrics and logs call the files
constexpr char kTls[] = "tls";

void LogStart() {
  Log(LogLevel::kInfo, "start",
      LogFields().Add("version", ServerVersion()).Add("commit", ServerCommit()));
  for (const auto& [flag, value] : FlagValues()) {
    Log(LogLevel::kInfo, "config", LogFields().Add("flag", flag).Add("value", value));
  }
}

void LogServing(const EngineInfo& info, absl::Duration since_start) {
  Log(LogLevel::kInfo, "serving",
      LogFields()
          .Add("model", info.model_name)
          .Add("device", info.device)
          .Add("dtype", info.weight_dtype)
          .Add("parameters", info.parameters)
          .Add("state_bytes", info.state_bytes)
          .Add("slots", info.state_slots)
          .Add("weight_bytes", info.weight_bytes)
          .Add("pool_bytes", info.pool_bytes)
          .Add("buffer_bytes", info.buffer_bytes)
          .AddSeconds("start_seconds", absl::ToDoubleSeconds(since_start)));
}

absl::StatusOr<std::unique_ptr<ApiKeyFile>> OpenApiKeys(const ServerConfig& config,
                                                        Metrics* metrics) {
  auto keys = ApiKeyFile::Open(
      config.api_keys, config.reload_interval, [metrics](const absl::StatusOr<size_t>& read) {
        metrics->OnFileReload(kApiKeys, read.ok());
        LogFields fields;
        fields.Add("file", kApiKeys);
        if (!read.ok()) {
          fields.Add("message", std::string(read.status().message()));
          Log(LogLevel::kError, "reload_failed", fields);
          return;
        }
        metrics->SetApiKeys(*read);
        Log(LogLevel::kInfo, "reloaded", fields.Add("keys", static_cast<int64_t>(*read)));
      });
  if (!keys.ok()) {
    return absl::Status(keys.status().code(),
                        absl::StrCat("--api-keys: ", keys.status().message()));
  }
  metrics->SetApiKeys((*keys)->Current()->size());
  metrics->OnFileReload(kApiKeys, /*ok=*/true, /*times=*/0);
  return keys;
}

// For the connections that the flags allow.
void RaiseDescriptors(const ServerConfig& config) {
  const int64_t wanted = int64_t{config.max_connections} + kOtherDescriptors;
  const int64_t limit = RaiseDescriptorLimit(wanted);
  if (limit >= wanted) return;
  Log(LogLevel::kWarning, "few_descriptors",
      LogFields()
          .Add("limit", limit)
          .Add("wanted", wanted)
          .Add("message",
               "fewer connections than --max-connections will find a file descriptor; raise the "
               "hard limit of open files"));
}

// Null if the flags ask for none.
absl::StatusOr<std::unique_ptr<Tls>> OpenTls(const ServerConfig& config, Metrics* metrics) {
  if (config.tls_cert.empty()) return nullptr;
  const auto on_reload = [metrics](const absl::StatusOr<absl::Time>& expires) {
    metrics->OnFileReload(kTls, expires.ok());
    LogFields fields;
    fields.Add("file", kTls);
    if (!expires.ok()) {
      fields.Add("message", std::string(expires.status().message()));
      Log(LogLevel::kError, "reload_failed", fields);
      return;
    }
    Log(LogLevel::kInfo, "reloaded",
        fields.Add("expires", absl::FormatTime(*expires, absl::UTCTimeZone())));
  };
  metrics->OnFileReload(kTls, /*ok=*/true, /*times=*/0);
  return Tls::Open({config.tls_cert, config.tls_key, config.tls_client_ca}, config.reload_interval,
                   on_reload);
}

std::shared_ptr<grpc::ServerCredentials> NewCredentials(Tls* tls) {
  return tls == nullptr ? grpc::InsecureServerCredentials() : tls->NewCredentials();
}

// Null if the flags ask for none.
absl::StatusOr<std::unique_ptr<MetricsListener>> StartMetrics(const std::string& address,
                                                              const Metrics& metrics,
                                                              ServerMetrics server_metrics) {
  if (address.empty()) return nullptr;
  auto collectables = metrics.Collectables();
  collectables.push_back(std::make_shared<ServerMetrics>(std::move(server_metrics)));
  SLUICE_ASSIGN_OR_RETURN(auto listener, MetricsListener::Start(address, std::move(collectables)));
  Log(LogLevel::kInfo, "metrics", LogFields().Add("url", listener->url()));
  return listener;
}

// Null if the flags ask for none. A socket file needs no TLS: its mode says who may use it.
absl::StatusOr<std::unique_ptr<AdminServer>> StartAdmin(const std::string& address, Tls* tls,
                                                        AdminParts parts) {
  if (address.empty()) return nullptr;
  const bool is_file = absl::StartsWith(address, "unix:");
  SLUICE_ASSIGN_OR_RETURN(auto server, AdminServer::Start(address, std::move(parts),
                                                          NewCredentials(is_file ? nullptr : tls)));
  Log(LogLevel::kInfo, "admin_listening", LogFields().Add("address", server->address()));
  return server;
}

ConnectionCounts CountConnections(GrpcServer* server, const TrafficGuard& guard) {
  ConnectionCounts counts = server->Connections();
  counts.cut = guard.cut();
  return counts;
}

// A state of the CPU takes its memory when it is first used.
int64_t MemoryLimitBeside(const EngineInfo& info, int64_t most_traffic) {
  const bool cpu = absl::StartsWith(info.device, "cpu");
  const int64_t limit = MemoryLimit({.resident = ResidentBytes(),
                                     .reserved = cpu ? info.state_slots * info.state_bytes : 0,
                                     .available = AvailableMemoryBytes()},
                                    most_traffic);
  Log(LogLevel::kInfo, "memory_limit", LogFields().Add("resident_bytes", limit));
  return limit;
}

// Refuses what comes, finishes what runs.
void Drain(const ServerConfig& config, Engine* engine, ActiveCalls* calls) {
  const absl::Time deadline = absl::Now() + config.drain_limit;
  engine->StartDraining();
  Log(LogLevel::kInfo, "draining",
      LogFields()
          .Add("running", engine->Gauges().running)
          .Add("waiting", engine->Gauges().waiting)
          .AddSeconds("limit_seconds", absl::ToDoubleSeconds(config.drain_limit)));
  const bool all_ended = engine->FinishDraining(deadline);
  const bool all_read = calls->WaitUntilIdle(absl::Now() + kLastAnswers);
  Log(LogLevel::kInfo, "drained",
      LogFields()
          .Add("requests", all_ended ? "finished" : "cut")
          .Add("streams", all_read ? "read" : "cut"));
}

}  // namespace

absl::Status Serve(const ServerConfig& config, const EngineFactory& create_engine) {
  const absl::Time start = absl::Now();
  StopSignals signals;
  signals.SetExitAtOnce(true);
  signal(SIGPIPE, SIG_IGN);  // a reader that closed our stderr must not end us
  StartLogging(config.log_format, config.log_level);
  LogStart();
  RaiseDescriptors(config);

  // Each outlives those below it.
  Metrics metrics;
  Telemetry telemetry(&metrics);
  DeliveryThread delivery;
  ActiveCalls calls;
  EngineHandle handle;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<ApiKeyFile> keys;
  if (!config.api_keys.empty()) {
    SLUICE_ASSIGN_OR_RETURN(keys, OpenApiKeys(config, &metrics));
  }
  Gate gate({config.client_rate, config.max_client_requests, config.max_metadata_bytes}, keys.get(),
            &telemetry);
  const ServiceParts parts = {&handle, &telemetry, &delivery, &calls, config.engine.stall_limit,
                              &gate};
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Tls> tls, OpenTls(config, &metrics));
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<GrpcServer> server,
                          GrpcServer::Start(config, parts, NewCredentials(tls.get())));
  Health health(server->health());
  Log(LogLevel::kInfo, "listening", LogFields().Add("address", server->address()));
  if (ShowsKeysInPlaintext(config)) {
    Log(LogLevel::kWarning, "keys_in_plaintext",
        LogFields().Add("message", "API keys come without TLS to an address of a network"));
  }
  TrafficGuard guard;
  guard.Start(server->port());
  const auto connections = [&] { return CountConnections(server.get(), guard); };
  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<MetricsListener> metrics_listener,
      StartMetrics(config.metrics_listen, metrics, ServerMetrics(connections, &health, tls.get())));
  SLUICE_ASSIGN_OR_RETURN(
      const std::unique_ptr<AdminServer> admin,
      StartAdmin(config.admin_listen, tls.get(),
                 {&handle, &health, [&connections] { return connections().open; },
                  [&signals] { signals.Stop(); }, start}));

  SLUICE_ASSIGN_OR_RETURN(engine,
                          create_engine(config.engine, &telemetry, [](const std::string& text) {
                            Log(LogLevel::kInfo, "loading", LogFields().Add("message", text));
                          }));
  metrics.SetEngine(engine.get());
  signals.SetExitAtOnce(false);  // from the next line on requests are taken, which a signal drains
  handle.Set(engine.get());
  guard.SetMemoryLimit(MemoryLimitBeside(engine->info(), config.max_traffic_memory));
  health.StartServing(engine.get(), config.stuck_after);
  LogServing(engine->info(), absl::Now() - start);

  signals.Wait();
  health.StartDraining();
  Drain(config, engine.get(), &calls);
  server->Shutdown(kShutdownGrace);
  metrics.SetEngine(nullptr);
  return absl::OkStatus();
}

int ServerMain(int argc, char** argv, const EngineFactory& create_engine) {
  OpenStandardDescriptors(argv);
  const absl::StatusOr<CommandLine> command_line =
      ParseCommandLine(std::vector<std::string>(argv + 1, argv + argc));
  if (!command_line.ok()) {
    std::fprintf(stderr, "sluice-server: %s\n",
                 std::string(command_line.status().message()).c_str());
    return 2;
  }
  if (command_line->action == CommandLine::Action::kHelp) {
    std::fputs(HelpText().c_str(), stdout);
    return 0;
  }
  if (command_line->action == CommandLine::Action::kVersion) {
    std::printf("sluice-server %s (%s)\n", std::string(ServerVersion()).c_str(),
                std::string(ServerCommit()).c_str());
    return 0;
  }
  const absl::Status status = Serve(command_line->config, create_engine);
  if (!status.ok()) {
    Log(LogLevel::kError, "failed", LogFields().Add("message", std::string(status.message())));
  }
  StopLogging();
  return status.ok() ? 0 : 1;
}

}  // namespace sluice
