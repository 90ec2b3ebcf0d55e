// The command as a whole, against a server that answers from a schedule.
#include "client/loadgen/loadgen_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/loadgen/monotonic_clock.h"
#include "client/loadgen/progress_line.h"
#include "tests/client/loadgen/stub_server.h"

namespace sluice {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

struct Result {
  int code = -1;
  std::string out;
  std::string err;
};

Result Command(const std::string& line,
               std::function<void(std::function<void()>)> on_interrupt = nullptr) {
  const std::vector<std::string> args = absl::StrSplit(line, ' ', absl::SkipEmpty());
  std::ostringstream out;
  std::ostringstream err;
  Result result;
  result.code = RunLoadgen(args, {out, err, /*terminal=*/false, std::move(on_interrupt)});
  result.out = out.str();
  result.err = err.str();
  return result;
}

std::string TempFile(const std::string& name) {
  return absl::StrCat(::testing::TempDir(), "/", getpid(), ".", name);
}

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

nlohmann::json ReadJson(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file);
}

struct BadLine {
  const char* line;
  const char* message;
};

TEST(LoadgenCommand, SaysWhatIsWrongWithItsOptions) {
  const BadLine bad_lines[] = {
      {"", "give exactly one of --users, --rate and --sweep-rates"},
      {"--users 1 --rate 1", "give exactly one of"},
      {"--users 0", "--users: \"0\" is not a whole number from 1 to 100000"},
      {"--users 1.5", "--users: \"1.5\" is not a whole number"},
      {"--rate 0", "--rate: \"0\" is not a number from 0.001 to 1e+06"},
      {"--rate nan", "--rate: \"nan\" is not a number"},
      {"--users 1 --think-time soon", "--think-time: \"soon\" is not a duration with a unit"},
      {"--users 1 --think-time normal:1s", "none of TIME, fixed:TIME, exponential:TIME"},
      {"--rate 1 --think-time 1s", "--think-time needs --users"},
      {"--users 1 --arrivals poisson", "--arrivals needs --rate or --sweep-rates"},
      {"--rate 1 --arrivals uniform", "--arrivals: \"uniform\" is none of poisson, constant"},
      {"--users 1 --max-in-flight 5", "--max-in-flight needs --rate"},
      {"--users 1 --sweep-start 5", "--sweep-start needs --sweep-rates"},
      {"--sweep-rates 1,2", "--sweep-rates needs --objective"},
      {"--sweep-rates 1,x --objective ttft=1s", "--sweep-rates: \"x\" is not a number"},
      {"--sweep-rates auto --objective ttft=1s --requests 5", "leave --requests out"},
      {"--users 1 --duration 0s",
       "--duration: \"0s\" is not a duration with a unit (ms, s, m, h) "
       "from 1ms to 168h"},
      {"--users 1 --warmup -1s", "--warmup: "},
      {"--users 1 --duration 5", "--duration: \"5\" is not a duration with a unit"},
      {"--users 1 --cancel 130%", "--cancel: \"130%\" is not a share from 0 to 1 (or 0% to 100%)"},
      {"--users 1 --cancel 0.6 --slow 0.5", "--cancel, --slow and --invalid are together 1.1"},
      {"--users 1 --prompt-tokens 0", "--prompt-tokens: \"0\" gives 0; the least is 1"},
      {"--users 1 --output-tokens uniform:0,5", "--output-tokens: \"uniform:0,5\" gives 0"},
      {"--users 1 --prompt-kind prose", "--prompt-kind: \"prose\" is none of tokens, words"},
      {"--users 1 --prompts f --prompt-tokens 5", "--prompt-tokens is for synthetic prompts"},
      {"--users 1 --shared-prefix 0.5", "--shared-prefix and --shared-prefix-tokens need each"},
      {"--users 1 --temperature 101", "--temperature: \"101\" is not a number from 0 to 100"},
      {"--users 1 --seed -1", "--seed: \"-1\" is not a whole number in [0, 2^64)"},
      {"--users 1 --objective tpot=1s", "--objective: \"tpot=1s\" is none of ttft=TIME"},
      {"--users 1 --tls --tls-cert c", "--tls-cert and --tls-key need each other"},
      {"--users 1 --tls-ca c", "--tls-ca, --tls-cert, --tls-key and --tls-server-name need --tls"},
      {"--users 1 --connections 0", "--connections: \"0\" is not a whole number from 1 to 10000"},
      {"--users 1 --nonsense", "there is no option --nonsense"},
      {"--users 1 more", "what is more?"},
  };
  for (const BadLine& bad : bad_lines) {
    const Result result = Command(bad.line);
    EXPECT_EQ(result.code, 2) << bad.line;
    EXPECT_THAT(result.err, StartsWith("sluice-loadgen: ")) << bad.line;
    EXPECT_THAT(result.err, HasSubstr(bad.message)) << bad.line;
    EXPECT_THAT(result.out, IsEmpty());
  }
}

TEST(LoadgenCommand, ExplainsItself) {
  const Result help = Command("--help");
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--sweep-rates LIST"));
  EXPECT_THAT(help.out, HasSubstr("Exit codes: 0 "));
  for (const absl::string_view line : absl::StrSplit(help.out, '\n')) {
    EXPECT_LE(line.size(), 80U) << line;
  }
  EXPECT_THAT(Command("--version").out, StartsWith("sluice-loadgen "));
}

TEST(LoadgenCommand, EndsWithOneIfItCannotRun) {
  const Result nobody = Command("--users 1 --server 127.0.0.1:1 --connect-limit 200ms");
  EXPECT_EQ(nobody.code, 1);
  EXPECT_THAT(nobody.err,
              StartsWith("sluice-loadgen: UNAVAILABLE: no connection to 127.0.0.1:1 within 200ms"));
  StubServer server({});
  const std::string where = absl::StrCat("--connect-limit 60s --server ", server.address(), " ");
  EXPECT_THAT(Command(where + "--users 1 --prompts /nonexistent/prompts").err,
              HasSubstr("/nonexistent/prompts"));
  EXPECT_THAT(Command(where + "--users 1 --output-tokens 100001").err,
              HasSubstr("--output-tokens: asks for 100001; the server's max_output_tokens"));
  EXPECT_THAT(Command(where + "--users 1 --json /nonexistent/report").err,
              HasSubstr("--json: /nonexistent/report cannot be written"));
  EXPECT_THAT(Command(where + "--users 1 --tls --tls-ca /nonexistent/ca").err,
              HasSubstr("/nonexistent/ca"));
  const std::string keys = TempFile("keys");
  std::ofstream(keys) << "two words\n";
  const Result key = Command(where + "--users 1 --api-key-file " + keys);
  EXPECT_EQ(key.code, 1);
  EXPECT_THAT(key.err, HasSubstr("must hold one line, an API key"));
  EXPECT_EQ(server.counts().requests, 0);
}

TEST(LoadgenCommand, WaitsForAServerThatLoadsItsModel) {
  StubOptions options;
  options.loading = 3;
  StubServer slow(options);
  const std::string load = " --users 1 --requests 1 --server ";
  EXPECT_EQ(Command("--connect-limit 60s" + load + slow.address()).code, 0);
  EXPECT_EQ(slow.counts().answered, 1);

  options.loading = 1000;
  StubServer slower(options);
  const Result result = Command("--connect-limit 300ms" + load + slower.address());
  EXPECT_EQ(result.code, 1);
  EXPECT_THAT(result.err, StartsWith("sluice-loadgen: UNAVAILABLE: loading"));
}

TEST(LoadgenCommand, ReportsAsATableAndAsJson) {
  StubOptions options;
  options.first_token = absl::Milliseconds(5);
  options.interval = absl::Milliseconds(1);
  StubServer server(options);
  const std::string key = TempFile("key");
  std::ofstream(key) << "secret\n";
  const std::string file = TempFile("report.json");
  const Result result = Command(absl::StrCat(
      "--connect-limit 60s --server ", server.address(),
      " --users 2 --requests 40 --cancel 25% --invalid 25% ",
      "--cancel-after 2 --output-tokens 20 --objective ttft=10m --fail-on-errors --api-key-file ",
      key, " --json ", file));
  EXPECT_EQ(result.code, 0) << result.err;
  const nlohmann::json json = ReadJson(file);
  EXPECT_EQ(json["schema"], "sluice-loadgen/1");
  EXPECT_EQ(json["command"][2], "--server");
  EXPECT_EQ(json["server"]["model"], "stub");
  EXPECT_EQ(json["load"]["loop"], "closed");
  const StubCounts counts = server.counts();
  const nlohmann::json& requests = json["requests"];
  EXPECT_EQ(requests["measured"], 40);
  EXPECT_EQ(requests["errors"], 0);
  EXPECT_EQ(requests["refused"], counts.refused);
  EXPECT_EQ(requests["cancelled"].get<int64_t>() + requests["answered"].get<int64_t>(),
            40 - counts.refused);
  EXPECT_EQ(counts.api_keys.size(), 40U);
  EXPECT_EQ(json["goodput"]["share"], 1);
  for (const char* name : {"time_to_first_token", "inter_token", "message_gap", "end_to_end"}) {
    const nlohmann::json& latency = json["latency_seconds"][name];
    EXPECT_GT(latency["count"], 0) << name;
    EXPECT_LE(latency["p50"], latency["p90"]) << name;
    EXPECT_LE(latency["p90"], latency["p99"]) << name;
    EXPECT_LE(latency["p99"], latency["max"]) << name;
    EXPECT_EQ(json["cdf"][name].back()[0], latency["max"]) << name;
    EXPECT_EQ(json["cdf"][name].back()[1], 1) << name;
  }
  EXPECT_GE(json["latency_seconds"]["time_to_first_token"]["p50"], 0.005);
  EXPECT_GT(json["throughput"]["output_tokens_per_second"], 0);
  int64_t due = 0;
  for (const nlohmann::json& second : json["series"]["due"]) due += second.get<int64_t>();
  EXPECT_EQ(due, 40);
  EXPECT_THAT(result.out, HasSubstr("closed loop, 2 users"));
  EXPECT_THAT(result.out, HasSubstr("requests    40 measured: "));
  EXPECT_THAT(result.out, HasSubstr(" refused as intended, 0 errors"));
  EXPECT_THAT(result.out, HasSubstr("time to first token"));
  EXPECT_THAT(result.out, HasSubstr("plain requests: ttft=10m"));
}

TEST(LoadgenCommand, SpeaksMutualTls) {
  const std::string certificate = TempFile("cert.pem");
  const std::string key = TempFile("key.pem");
  const std::string make = absl::StrCat(
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
      "-subj /CN=sluice.test -addext subjectAltName=DNS:sluice.test -keyout ",
      key, " -out ", certificate, " 2>/dev/null");
  ASSERT_EQ(std::system(make.c_str()), 0) << make;
  StubOptions options;
  options.certificate = ReadText(certificate);
  options.key = ReadText(key);
  StubServer server(options);
  const std::string load = absl::StrCat("--connect-limit 60s --server ", server.address(),
                                        " --users 1 --requests 3 --fail-on-errors ");
  const std::string tls =
      absl::StrCat("--tls --tls-ca ", certificate, " --tls-server-name sluice.test");
  const Result good =
      Command(absl::StrCat(load, tls, " --tls-cert ", certificate, " --tls-key ", key));
  EXPECT_EQ(good.code, 0) << good.err;
  EXPECT_EQ(server.counts().answered, 3);
  for (const std::string& bad : {std::string(), tls, std::string("--tls")}) {
    const Result refused = Command(absl::StrCat(load, bad, " --connect-limit 300ms"));
    EXPECT_EQ(refused.code, 1) << bad;
    EXPECT_THAT(refused.err, HasSubstr("UNAVAILABLE: ")) << bad;
  }
  EXPECT_EQ(server.counts().requests, 3);
}

TEST(LoadgenCommand, TellsErrorsByTheirCode) {
  StubOptions options;
  options.refuse_all = {grpc::StatusCode::RESOURCE_EXHAUSTED, "full"};
  StubServer server(options);
  const std::string line = absl::StrCat("--connect-limit 60s --server ", server.address(),
                                        " --users 1 --requests 3 --error-pause 1ms");
  const Result result = Command(line);
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("RESOURCE_EXHAUSTED 3, the first: full"));
  EXPECT_EQ(Command(line + " --fail-on-errors").code, 3);
}

TEST(LoadgenCommand, SweepsOverRates) {
  StubServer server({});
  const std::string file = TempFile("sweep.json");
  const Result result = Command(
      absl::StrCat("--connect-limit 60s --server ", server.address(),
                   " --sweep-rates 300,100 --duration 300ms --warmup 100ms ",
                   "--objective ttft=10m --sweep-served 0 --output-tokens 2 --json ", file));
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("knee: 300 requests/s"));
  EXPECT_THAT(result.err, HasSubstr("100 requests/s: sustained\n"));
  const nlohmann::json json = ReadJson(file);
  EXPECT_EQ(json["schema"], "sluice-loadgen-sweep/1");
  EXPECT_EQ(json["knee"], 300);
  ASSERT_EQ(json["points"].size(), 2U);
  const nlohmann::json& low = json["points"][0]["report"];
  const nlohmann::json& high = json["points"][1]["report"];
  EXPECT_EQ(low["load"]["rate"], 100);
  EXPECT_GT(high["requests"]["measured"], low["requests"]["measured"]);
}

TEST(LoadgenCommand, AnInterruptEndsARunWithAReport) {
  StubOptions options;
  options.hang = true;
  StubServer server(options);
  std::thread interrupter;
  const Result result = Command(absl::StrCat("--connect-limit 60s --server ", server.address(),
                                             " --users 2 --progress --duration 1h"),
                                [&](std::function<void()> stop) {
                                  interrupter = std::thread([&server, stop = std::move(stop)] {
                                    while (server.counts().requests < 2) {
                                      std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                    }
                                    stop();
                                  });
                                });
  interrupter.join();
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(result.out, HasSubstr("; interrupted"));
  EXPECT_THAT(result.out, HasSubstr("2 measured: 0 answered, 2 interrupted, 0 errors"));
}

TEST(LoadgenCommand, AnInterruptEndsASweep) {
  StubOptions options;
  options.hang = true;
  StubServer server(options);
  std::thread interrupter;
  const Result result =
      Command(absl::StrCat("--server ", server.address(),
                           " --sweep-rates 50,60 --duration 1h --objective ttft=1s"),
              [&](std::function<void()> stop) {
                interrupter = std::thread([&server, stop = std::move(stop)] {
                  while (server.counts().requests < 1) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(1));
                  }
                  stop();
                });
              });
  interrupter.join();
  EXPECT_EQ(result.code, 130);
  EXPECT_THAT(result.out, HasSubstr("knee: none"));
}

TEST(ProgressText, NamesThePhase) {
  LoadProgress progress;
  progress.window = {0, 2 * kNsPerSecond, 12 * kNsPerSecond};
  progress.in_flight = 7;
  progress.totals.due = 9;
  progress.totals.first_token.Record(30'000'000);
  progress.totals.seconds.resize(6);
  progress.totals.seconds[3].output_tokens = 1234;
  EXPECT_THAT(ProgressText(progress, kNsPerSecond), StartsWith("warm-up 1/2 s | in flight 7 | "));
  const std::string measured = ProgressText(progress, 4 * kNsPerSecond);
  EXPECT_THAT(measured, StartsWith("measured 2/10 s | "));
  EXPECT_THAT(measured, HasSubstr("measured 9, answered 0, errors 0 | 1234 tokens/s"));
  EXPECT_THAT(measured, HasSubstr("TTFT p99 30.0 ms"));
  EXPECT_THAT(ProgressText(progress, 13 * kNsPerSecond), StartsWith("drain | "));
}

}  // namespace
}  // namespace sluice
