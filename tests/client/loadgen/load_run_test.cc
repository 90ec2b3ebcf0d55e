// Whole runs against a server that answers from a schedule.
#include "client/loadgen/load_run.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <thread>

#include "client/loadgen/load_report.h"
#include "client/loadgen/monotonic_clock.h"
#include "client/loadgen/server_channels.h"
#include "tests/client/loadgen/stub_server.h"

namespace sluice {
namespace {

using ::testing::Each;
using ::testing::Ge;
using ::testing::HasSubstr;

constexpr int64_t kMs = 1'000'000;

v1::GetModelResponse StubModel() {
  v1::GetModelResponse model;
  model.set_vocab_size(1000);
  model.mutable_limits()->set_max_prompt_tokens(1000);
  model.mutable_limits()->set_max_output_tokens(1000);
  return model;
}

// A server, and all that a run against it needs.
struct Fixture {
  explicit Fixture(const StubOptions& options = {}) : server(options) {
    workload.prompt_tokens = *LengthDistribution::Parse("5");
    workload.output_tokens = *LengthDistribution::Parse("4");
    load.users = 3;
    load.requests = 30;
    load.error_pause = absl::ZeroDuration();
    ServerOptions connect;
    connect.address = server.address();
    connect.connections = 2;
    connect.slow_readers = true;
    connect.connect_limit = absl::Seconds(60);
    auto connected = ConnectAll(connect);
    EXPECT_TRUE(connected.ok()) << connected.status();
    channels = *std::move(connected);
  }

  LoadResult Run(RequestObserver observer = nullptr) {
    const auto planner = RequestPlanner::Make(workload, StubModel());
    EXPECT_TRUE(planner.ok()) << planner.status();
    LoadRun run(load, &*planner, channels, std::move(observer));
    return run.Run();
  }

  StubServer server;
  WorkloadOptions workload;
  LoadOptions load;
  LoadChannels channels;
};

TEST(LoadRun, AClosedLoopSendsAsManyRequestsAsWanted) {
  Fixture f;
  f.load.threads = 2;
  const LoadResult result = f.Run();
  EXPECT_EQ(result.totals.due, 30);
  EXPECT_EQ(result.totals.answered, 30);
  EXPECT_EQ(result.totals.window_output_tokens, 120);
  EXPECT_EQ(result.totals.window_prompt_tokens, 150);
  EXPECT_EQ(result.totals.first_token.count(), 30);
  EXPECT_EQ(result.totals.inter_token.count(), 90);
  EXPECT_FALSE(result.interrupted);
  EXPECT_GT(WindowSeconds(result), 0);
  const StubCounts counts = f.server.counts();
  EXPECT_EQ(counts.answered, 30);
  EXPECT_EQ(std::set<std::string>(counts.ids.begin(), counts.ids.end()).size(), 30U);
}

TEST(LoadRun, AClosedLoopHasNoMoreInFlightThanUsers) {
  StubOptions options;
  options.interval = absl::Milliseconds(1);
  Fixture f(options);
  std::mutex mutex;
  std::vector<std::pair<int64_t, int>> changes;
  f.Run([&](const FinishedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex);
    changes.emplace_back(request.record.sent_ns, 1);
    changes.emplace_back(request.record.end_ns, -1);
  });
  std::sort(changes.begin(), changes.end());
  int in_flight = 0;
  int most = 0;
  for (const auto& [ns, change] : changes) {
    in_flight += change;
    most = std::max(most, in_flight);
  }
  EXPECT_EQ(most, 3);
}

TEST(LoadRun, UsersThinkBetweenRequests) {
  Fixture f;
  f.load.users = 1;
  f.load.requests = 5;
  f.load.think_time = absl::Milliseconds(20);
  std::vector<RequestRecord> records;
  f.Run([&](const FinishedRequest& request) { records.push_back(request.record); });
  ASSERT_EQ(records.size(), 5U);
  for (size_t i = 1; i < records.size(); ++i) {
    EXPECT_EQ(records[i].due_ns - records[i - 1].end_ns, 20 * kMs);
    EXPECT_GE(records[i].sent_ns, records[i].due_ns);
  }
}

TEST(LoadRun, ExponentialThinkTimesDiffer) {
  Fixture f;
  f.load.users = 1;
  f.load.requests = 10;
  f.load.think_time = absl::Milliseconds(2);
  f.load.exponential_think = true;
  std::set<int64_t> pauses;
  int64_t end_ns = 0;
  f.Run([&](const FinishedRequest& request) {
    if (end_ns != 0) pauses.insert(request.record.due_ns - end_ns);
    end_ns = request.record.end_ns;
  });
  EXPECT_EQ(pauses.size(), 9U);
}

// A server that hangs must not slow the load: every request is due, and sent, as drawn.
TEST(LoadRun, AnOpenLoopKeepsToItsScheduleWhateverTheServerDoes) {
  StubOptions options;
  options.hang = true;
  Fixture f(options);
  f.load.rate = 200;
  f.load.requests = 0;
  f.load.duration = absl::Milliseconds(500);
  f.load.drain = absl::ZeroDuration();
  std::mutex mutex;
  std::map<uint64_t, RequestRecord> records;
  const LoadResult result = f.Run([&](const FinishedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex);
    records[request.record.index] = request.record;
  });
  ArrivalOptions arrivals;
  arrivals.rate = 200;
  arrivals.end_ns = 500 * kMs;
  ArrivalSchedule schedule(arrivals);
  for (const auto& [index, record] : records) {
    EXPECT_EQ(record.due_ns - result.window.start_ns, schedule.Next()) << index;
    EXPECT_GE(record.sent_ns, record.due_ns);
    EXPECT_EQ(record.error, "UNFINISHED");
  }
  EXPECT_EQ(schedule.Next(), std::nullopt);
  EXPECT_EQ(result.totals.errors_by_name.at("UNFINISHED").count, result.totals.due);
  EXPECT_EQ(result.totals.window_due, result.totals.due);
}

TEST(LoadRun, LatenciesCountFromWhenARequestWasDueNotFromWhenItWasSent) {
  StubOptions options;
  options.first_token = absl::Milliseconds(30);
  Fixture f(options);
  f.load.rate = 100;
  f.load.requests = 20;
  const LoadResult result = f.Run([](const FinishedRequest& request) {
    EXPECT_GE(request.record.first_token_ns - request.record.sent_ns, 30 * kMs);
  });
  EXPECT_EQ(result.totals.answered, 20);
  EXPECT_GE(result.totals.first_token.Percentile(0), 30 * kMs);
  EXPECT_GE(result.totals.first_token.mean_ns(),
            30 * kMs + result.totals.send_delay.mean_ns() * 0.99);
}

TEST(LoadRun, CountsWhatWouldBeTooMuchInFlightAsNotSent) {
  StubOptions options;
  options.hang = true;
  Fixture f(options);
  f.load.rate = 1000;
  f.load.requests = 25;
  f.load.max_in_flight = 10;
  f.load.drain = absl::ZeroDuration();
  std::atomic<int> not_sent{0};
  const LoadResult result = f.Run([&](const FinishedRequest& request) {
    if (request.record.error == "NOT_SENT") ++not_sent;
  });
  EXPECT_EQ(result.totals.errors_by_name.at("NOT_SENT").count, 15);
  EXPECT_EQ(result.totals.errors_by_name.at("UNFINISHED").count, 10);
  EXPECT_EQ(not_sent, 15);
  EXPECT_LE(f.server.counts().requests, 10);
}

TEST(LoadRun, ReportsTheScheduleOfTheServer) {
  StubOptions options;
  options.first_token = absl::Milliseconds(20);
  options.interval = absl::Milliseconds(10);
  Fixture f(options);
  f.load.users = 2;
  f.load.requests = 10;
  f.workload.output_tokens = *LengthDistribution::Parse("10");
  int64_t between_ns = 0;
  std::mutex mutex;
  const LoadResult result = f.Run([&](const FinishedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex);
    between_ns += request.record.last_token_ns - request.record.first_token_ns;
    // A machine can be late, never early.
    EXPECT_GE(request.record.last_token_ns - request.record.sent_ns, 110 * kMs);
  });
  const LoadTotals& totals = result.totals;
  EXPECT_GE(totals.first_token.Percentile(0), 20 * kMs);
  EXPECT_GE(totals.end_to_end.Percentile(0), 110 * kMs);
  EXPECT_EQ(totals.inter_token.count(), 90);
  EXPECT_NEAR(totals.inter_token.mean_ns(), static_cast<double>(between_ns) / 90, 1);
}

TEST(LoadRun, MeasuresNothingThatIsDueInTheWarmUp) {
  StubOptions options;
  options.interval = absl::Milliseconds(1);
  Fixture f(options);
  f.load.warmup = absl::Milliseconds(100);
  f.load.duration = absl::Milliseconds(100);
  f.load.requests = 0;
  std::mutex mutex;
  std::vector<RequestRecord> records;
  const LoadResult result = f.Run([&](const FinishedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex);
    records.push_back(request.record);
  });
  int64_t measured = 0;
  for (const RequestRecord& record : records) {
    EXPECT_EQ(record.measured, record.due_ns >= result.window.begin_ns);
    EXPECT_LT(record.due_ns, result.window.end_ns);
    measured += record.measured ? 1 : 0;
  }
  EXPECT_EQ(result.totals.due, measured);
  EXPECT_EQ(result.totals.answered, measured);
  EXPECT_DOUBLE_EQ(WindowSeconds(result), 0.1);
  EXPECT_EQ(f.server.counts().requests, static_cast<int64_t>(records.size()));
}

TEST(LoadRun, CancelsAfterAsManyTokensAsDrawn) {
  StubOptions options;
  options.interval = absl::Milliseconds(2);
  Fixture f(options);
  f.workload.cancel_share = 1;
  f.workload.cancel_after = *LengthDistribution::Parse("3");
  f.workload.output_tokens = *LengthDistribution::Parse("1000");
  const LoadTotals totals = f.Run().totals;
  EXPECT_EQ(totals.cancelled, 30);
  EXPECT_EQ(totals.errors, 0);
  EXPECT_EQ(totals.answered, 0);
  const StubCounts counts = f.server.counts();
  EXPECT_EQ(counts.answered, 0);
  EXPECT_THAT(counts.cancelled_after, Each(Ge(3)));
}

TEST(LoadRun, CancelsBeforeAnyToken) {
  StubOptions options;
  options.hang = true;
  Fixture f(options);
  f.workload.cancel_share = 1;
  f.workload.cancel_after = *LengthDistribution::Parse("0");
  EXPECT_EQ(f.Run().totals.cancelled, 30);
}

TEST(LoadRun, TheServerRefusesInvalidRequests) {
  Fixture f;
  f.workload.invalid_share = 1;
  const RequestObserver observer = [](const FinishedRequest& request) {
    EXPECT_EQ(request.record.message, request.plan.fault + " is wrong");
  };
  const LoadTotals totals = f.Run(observer).totals;
  EXPECT_EQ(totals.refused, 30);
  EXPECT_EQ(totals.errors, 0);
  EXPECT_EQ(f.server.counts().refused, 30);
}

TEST(LoadRun, SlowReadersHoldTheServerUp) {
  StubOptions options;
  options.text_bytes = 4000;
  Fixture f(options);
  f.workload.slow_share = 1;
  f.workload.output_tokens = *LengthDistribution::Parse("8");
  f.load.call.slow_pause = absl::Milliseconds(20);
  f.load.requests = 6;
  const LoadTotals totals = f.Run().totals;
  EXPECT_EQ(totals.answered, 6);
  EXPECT_THAT(f.server.counts().seconds, Each(Ge(0.06)));
}

TEST(LoadRun, CountsErrorsByTheirCode) {
  StubOptions options;
  options.refuse_all = {grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"};
  Fixture f(options);
  const LoadTotals totals = f.Run().totals;
  EXPECT_EQ(totals.errors, 30);
  EXPECT_EQ(totals.errors_by_name.at("RESOURCE_EXHAUSTED").count, 30);
  EXPECT_EQ(totals.errors_by_name.at("RESOURCE_EXHAUSTED").message, "the queue is full");
}

TEST(LoadRun, UsersPauseAfterAnError) {
  StubOptions options;
  options.refuse_all = {grpc::StatusCode::UNAVAILABLE, "draining"};
  Fixture f(options);
  f.load.users = 1;
  f.load.requests = 3;
  f.load.error_pause = absl::Milliseconds(15);
  std::vector<RequestRecord> records;
  f.Run([&](const FinishedRequest& request) { records.push_back(request.record); });
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(records[1].due_ns - records[0].end_ns, 15 * kMs);
}

TEST(LoadRun, SeesWhatNoStatusSays) {
  StubOptions forgetful;
  forgetful.forget_finished = true;
  Fixture incomplete(forgetful);
  incomplete.load.requests = 5;
  EXPECT_EQ(incomplete.Run().totals.errors_by_name.at("INCOMPLETE").count, 5);
  StubOptions draining;
  draining.cut_short = true;
  Fixture cut(draining);
  cut.load.requests = 5;
  EXPECT_EQ(cut.Run().totals.errors_by_name.at("CUT_SHORT").count, 5);
  StubOptions careless;
  careless.accept_invalid = true;
  Fixture f(careless);
  f.workload.invalid_share = 1;
  f.load.requests = 10;
  EXPECT_GT(f.Run().totals.errors_by_name.at("INVALID_ACCEPTED").count, 0);
}

TEST(LoadRun, EndsCallsAtTheirDeadline) {
  StubOptions options;
  options.hang = true;
  Fixture f(options);
  f.load.call.deadline = absl::Milliseconds(20);
  EXPECT_EQ(f.Run().totals.errors_by_name.at("DEADLINE_EXCEEDED").count, 30);
}

TEST(LoadRun, ShowsEachFinishedRequestToItsObserver) {
  Fixture f;
  f.load.call.keep_output = true;
  f.load.call.api_key = "secret";
  std::mutex mutex;
  std::map<uint64_t, std::string> texts;
  f.Run([&](const FinishedRequest& request) {
    const std::lock_guard<std::mutex> lock(mutex);
    texts[request.plan.index] = request.text;
    EXPECT_EQ(request.token_ids.size(), 4U);
    ASSERT_NE(request.finished, nullptr);
    EXPECT_EQ(request.finished->seed(), request.plan.message.sampling().seed());
    EXPECT_EQ(request.record.prompt_tokens, 5);
  });
  EXPECT_EQ(texts.size(), 30U);
  EXPECT_EQ(texts[0], "xxxxxxxxxxxxxxxxxxxxxxxx");
  const StubCounts counts = f.server.counts();
  ASSERT_EQ(counts.api_keys.size(), 30U);
  EXPECT_THAT(counts.api_keys, Each(std::string("Bearer secret")));
}

TEST(LoadRun, StopEndsARunWithWhatItHas) {
  StubOptions options;
  options.interval = absl::Milliseconds(5);
  Fixture f(options);
  f.workload.output_tokens = *LengthDistribution::Parse("1000");
  f.load.duration = absl::Hours(1);
  f.load.requests = 0;
  f.workload.slow_share = 0.5;
  f.load.call.slow_pause = absl::Hours(1);  // in which the stop finds them
  const auto planner = RequestPlanner::Make(f.workload, StubModel());
  ASSERT_TRUE(planner.ok());
  LoadRun run(f.load, &*planner, f.channels, nullptr);
  std::thread stopper([&] {
    while (run.Progress().totals.window_output_tokens < 3) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(run.Progress().in_flight, 3);
    run.Stop();
  });
  const LoadResult result = run.Run();
  stopper.join();
  EXPECT_TRUE(result.interrupted);
  EXPECT_EQ(result.totals.interrupted, 3);
  EXPECT_EQ(result.totals.errors, 0);
  EXPECT_GE(result.totals.window_output_tokens, 3);
  EXPECT_LT(WindowSeconds(result), 3600);
}

}  // namespace
}  // namespace sluice
