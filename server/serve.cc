#include "server/serve.h"

#include <signal.h>

#include <cstdio>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/status_macros.h"
#include "server/active_calls.h"
#include "server/delivery_thread.h"
#include "server/grpc_server.h"
#include "server/health.h"
#include "server/metrics.h"
#include "server/metrics_listener.h"
#include "server/stop_signals.h"
#include "server/telemetry.h"
#include "server/version.h"

namespace sluice {
namespace {

// For what remains when every request has ended: answers on their way, open health watches.
constexpr absl::Duration kLastAnswers = absl::Seconds(2);
constexpr absl::Duration kShutdownGrace = absl::Milliseconds(100);

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
          .AddSeconds("start_seconds", absl::ToDoubleSeconds(since_start)));
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

  // Each outlives those below it.
  Metrics metrics;
  Telemetry telemetry(&metrics);
  DeliveryThread delivery;
  ActiveCalls calls;
  EngineHandle handle;
  std::unique_ptr<Engine> engine;
  const ServiceParts parts = {&handle, &telemetry, &delivery, &calls, config.engine.stall_limit};
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<GrpcServer> server,
                          GrpcServer::Start(config, parts));
  Health health(server->health());
  Log(LogLevel::kInfo, "listening", LogFields().Add("address", server->address()));
  std::unique_ptr<MetricsListener> metrics_listener;
  if (!config.metrics_listen.empty()) {
    SLUICE_ASSIGN_OR_RETURN(metrics_listener,
                            MetricsListener::Start(config.metrics_listen, metrics.Collectables()));
    Log(LogLevel::kInfo, "metrics", LogFields().Add("url", metrics_listener->url()));
  }

  SLUICE_ASSIGN_OR_RETURN(engine,
                          create_engine(config.engine, &telemetry, [](const std::string& text) {
                            Log(LogLevel::kInfo, "loading", LogFields().Add("message", text));
                          }));
  metrics.SetEngine(engine.get());
  handle.Set(engine.get());
  health.StartServing(engine.get(), config.stuck_after);
  LogServing(engine->info(), absl::Now() - start);

  signals.SetExitAtOnce(false);
  signals.Wait();
  health.StartDraining();
  Drain(config, engine.get(), &calls);
  server->Shutdown(kShutdownGrace);
  metrics.SetEngine(nullptr);
  return absl::OkStatus();
}

int ServerMain(int argc, char** argv, const EngineFactory& create_engine) {
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
