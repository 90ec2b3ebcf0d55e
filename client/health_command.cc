#include <optional>
#include <ostream>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/command.h"
#include "client/health.h"
#include "client/remote_backend.h"

namespace sluice {

int RunHealth(absl::Span<const std::string> args, const Environment& environment) {
  std::string server;
  std::string service;
  TlsOptions tls;
  std::optional<double> wait_seconds;
  Invocation line = {"health", "[OPTION...]",
                     "Asks a server's grpc.health.v1 and prints SERVING or what else it says.\n"
                     "Exit code 0 means SERVING, 1 anything else."};
  line.options.Section("Options");
  line.options.Text("server", "HOST:PORT", &server, "Server to ask. Default: 127.0.0.1:50051.");
  AddTlsOptions(&tls, &line.options);
  line.options.Text("service", "NAME", &service,
                    "One of its services, such as sluice.v1.GenerationService. Default: the "
                    "server as a whole.");
  line.options.Number("wait", "SECONDS", &wait_seconds,
                      "Asks until the server is SERVING, for so long at most. Default: 0, once.");
  const std::optional<int> over = ParseOrExplain(args, &line, environment);
  if (over.has_value()) return *over;
  if (!line.operands.empty()) return UsageError(line, "takes no operand", environment);
  if (wait_seconds.has_value() && !(*wait_seconds >= 0)) {
    return UsageError(line, "--wait must be at least 0", environment);
  }
  const std::string problem = CheckTlsOptions(tls);
  if (!problem.empty()) return UsageError(line, problem, environment);
  const auto channel = ConnectTo(server, tls);
  if (!channel.ok()) return Fail(channel.status(), environment);
  const absl::Time deadline = absl::Now() + absl::Seconds(wait_seconds.value_or(0));
  const absl::StatusOr<std::string> health = AwaitHealth(*channel, service, deadline);
  if (!health.ok()) return Fail(health.status(), environment);
  environment.out << *health << "\n";
  const int written = FinishOutput(environment);
  return *health == "SERVING" ? written : kExitError;
}

}  // namespace sluice
