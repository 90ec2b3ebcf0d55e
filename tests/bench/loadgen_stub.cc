// A server without a model, which streams as fast as asked: what the load generator's own cost is
// measured with (loadgen_bench.py). Ends at SIGTERM, and prints as JSON what it sent.
#include <csignal>
#include <cstdio>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/time.h"
#include "client/loadgen/monotonic_clock.h"
#include "tests/client/loadgen/stub_server.h"

ABSL_FLAG(std::string, listen, "127.0.0.1:0", "Where to listen.");
ABSL_FLAG(absl::Duration, first_token, absl::ZeroDuration(),
          "From a request to its first message.");
ABSL_FLAG(absl::Duration, interval, absl::ZeroDuration(),
          "Between messages of a request; 0: none, as fast as they are taken.");

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  sluice::StubOptions options;
  options.listen = absl::GetFlag(FLAGS_listen);
  options.first_token = absl::GetFlag(FLAGS_first_token);
  options.interval = absl::GetFlag(FLAGS_interval);
  const sluice::StubServer server(options);
  std::printf("%s\n", server.address().c_str());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  const sluice::StubCounts counts = server.counts();
  std::printf(
      "{\"requests\": %ld, \"messages\": %ld, \"late_seconds\": {\"p50\": %.9f, \"p99\": %.9f, "
      "\"max\": %.9f}}\n",
      counts.requests, counts.messages, sluice::ToSeconds(counts.late.Percentile(50)),
      sluice::ToSeconds(counts.late.Percentile(99)), sluice::ToSeconds(counts.late.max_ns()));
}
