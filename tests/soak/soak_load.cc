// Sends a schedule of requests to a server: the part of the soak that has to be fast
// (tests/soak/README.md). One line of JSON on standard output for each attempt.
#include <cstdio>
#include <string>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "client/loadgen/server_channels.h"
#include "tests/soak/soak_run.h"
#include "tests/soak/soak_schedule.h"

ABSL_FLAG(std::string, server, "127.0.0.1:50051", "Address of the server");
ABSL_FLAG(std::string, plans, "", "File of the messages, a GenerateRequest as JSON a line");
ABSL_FLAG(std::string, requests, "", "File of the requests, INDEX PLAN KIND CANCEL_AFTER a line");
ABSL_FLAG(int64_t, users, 1, "How many requests are under way at once");
ABSL_FLAG(int64_t, connections, 8, "Over how many connections, besides the one of slow readers");
ABSL_FLAG(double, seconds, 0, "How long new requests are sent; 0: until all are");

namespace sluice {
namespace {

// One that takes longer hangs.
constexpr absl::Duration kLongestRequest = absl::Minutes(5);
constexpr absl::Duration kConnectLimit = absl::Minutes(1);

absl::Status Load() {
  auto schedule = ReadSoakSchedule(absl::GetFlag(FLAGS_plans), absl::GetFlag(FLAGS_requests));
  if (!schedule.ok()) return schedule.status();
  ServerOptions server;
  server.address = absl::GetFlag(FLAGS_server);
  server.connections = absl::GetFlag(FLAGS_connections);
  server.slow_readers = true;
  server.connect_limit = kConnectLimit;
  const auto channels = ConnectAll(server);
  if (!channels.ok()) return channels.status();
  SoakOptions options;
  options.users = absl::GetFlag(FLAGS_users);
  const double seconds = absl::GetFlag(FLAGS_seconds);
  if (seconds > 0) options.duration = absl::Seconds(seconds);
  options.call.deadline = kLongestRequest;
  options.call.keep_output = true;
  SoakRun(options, &*schedule, *channels, stdout).Run();
  return absl::OkStatus();
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = sluice::Load();
  if (!status.ok()) std::fprintf(stderr, "soak_load: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
