#include "server/generation_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/fake_engine.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using Stub = v1::GenerationService::Stub;

std::unique_ptr<Stub> NewStub(const TestServer& server) {
  return v1::GenerationService::NewStub(server.NewChannel());
}

v1::GenerateRequest Prompt(const std::string& text) {
  v1::GenerateRequest request;
  request.set_text(text);
  return request;
}

grpc::Status CallOnce(Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  const auto reader = stub.Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  return reader->Finish();
}

// A server on loopback, whose engine does what the test says.
class GenerationServiceTest : public testing::Test {
 protected:
  GenerationServiceTest() { server_.handle.Set(&engine_); }

  FakeEngine engine_;
  TestServer server_;
  const std::unique_ptr<Stub> stub_ = NewStub(server_);
};

TEST_F(GenerationServiceTest, StreamsInOrderAndFinishesLast) {
  grpc::ClientContext context;
  v1::GenerateRequest request = Prompt("once");
  request.set_request_id("mine");
  request.mutable_stopping()->set_max_tokens(3);
  const auto reader = stub_->Generate(&context, request);

  const SubmittedRequest submitted = engine_.Next();
  EXPECT_EQ(submitted.request.text, "once");
  EXPECT_EQ(submitted.request.id, "mine");
  EXPECT_EQ(submitted.request.stopping.max_tokens, 3);
  EXPECT_THAT(submitted.request.origin.peer, HasSubstr("ipv4:127.0.0.1:"));
  EXPECT_EQ(submitted.request.deadline, absl::InfiniteFuture());
  constexpr int kTokens = 1000;
  std::thread engine_thread([sink = submitted.sink] {
    for (int32_t i = 0; i < kTokens; ++i) {
      sink->OnOutput({std::string(1, static_cast<char>('a' + i % 26)), {{i, {}, {}}}});
    }
    Outcome outcome;
    outcome.output_tokens = kTokens;
    outcome.request_id = "mine";
    sink->OnDone(outcome);
  });

  std::string text;
  std::vector<uint32_t> ids;
  v1::GenerateResponse response;
  bool finished = false;
  while (reader->Read(&response)) {
    EXPECT_FALSE(finished) << "a message after the last";
    text += response.text();
    ids.insert(ids.end(), response.token_ids().begin(), response.token_ids().end());
    finished = response.has_finished();
  }
  engine_thread.join();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(finished);
  EXPECT_EQ(response.finished().reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(response.finished().request_id(), "mine");
  ASSERT_EQ(ids.size(), size_t{kTokens});
  for (uint32_t i = 0; i < kTokens; ++i) {
    ASSERT_EQ(ids[i], i);
    ASSERT_EQ(text[i], static_cast<char>('a' + i % 26));
  }
  EXPECT_TRUE(server_.calls.WaitUntilIdle(absl::Now() + absl::Seconds(20)));
}

TEST(GenerationService, RefusesWhileTheModelIsLoaded) {
  TestServer server;
  const auto stub = NewStub(server);
  const grpc::Status status = CallOnce(*stub, Prompt("x"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("loading"));
  ASSERT_EQ(server.recorder.outcomes().size(), 1U);
  EXPECT_EQ(server.recorder.outcomes()[0].status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(server.recorder.outcomes()[0].origin.peer, HasSubstr("127.0.0.1"));
}

TEST(GenerationService, NamesWhatItRefusesAsTheClientDoes) {
  TestServer server;
  const auto stub = NewStub(server);
  v1::GenerateRequest request = Prompt("x");
  for (const char* id : {"mine", "", "two\nlines"}) {
    request.set_request_id(id);
    EXPECT_FALSE(CallOnce(*stub, request).ok());
  }
  const std::vector<Outcome> outcomes = server.recorder.outcomes();
  ASSERT_EQ(outcomes.size(), 3U);
  EXPECT_EQ(outcomes[0].request_id, "mine");
  EXPECT_THAT(outcomes[1].request_id, testing::MatchesRegex("r-[0-9a-f]+"));
  EXPECT_THAT(outcomes[2].request_id, testing::MatchesRegex("r-[0-9a-f]+"));
}

TEST_F(GenerationServiceTest, PassesOnWhyTheEngineRefused) {
  const std::vector<std::pair<absl::Status, grpc::StatusCode>> cases = {
      {absl::InvalidArgumentError("sampling.temperature: nan"), grpc::StatusCode::INVALID_ARGUMENT},
      {absl::ResourceExhaustedError("the queue is full"), grpc::StatusCode::RESOURCE_EXHAUSTED},
      {absl::UnavailableError("draining"), grpc::StatusCode::UNAVAILABLE},
      {absl::DeadlineExceededError("late"), grpc::StatusCode::DEADLINE_EXCEEDED}};
  for (const auto& [status, code] : cases) {
    engine_.SetSubmitStatus(status);
    const grpc::Status got = CallOnce(*stub_, Prompt("x"));
    EXPECT_EQ(got.error_code(), code);
    EXPECT_EQ(got.error_message(), std::string(status.message()));
  }
  // The engine tells the observer of what it refuses; the service must not do so again.
  EXPECT_TRUE(server_.recorder.outcomes().empty());
}

TEST_F(GenerationServiceTest, NamesTheFieldThatIsNotUtf8) {
  std::string response;
  const grpc::Status status = CallRaw(server_.NewChannel(), "/sluice.v1.GenerationService/Generate",
                                      "\x0A\x02\xC3\x28", &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "text: not valid UTF-8");
  ASSERT_EQ(server_.recorder.outcomes().size(), 1U);
}

TEST_F(GenerationServiceTest, ACancelReachesTheEngine) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Prompt("x"));
  const SubmittedRequest submitted = engine_.Next();
  submitted.sink->OnOutput({"a", {{1, {}, {}}}});
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(submitted.sink->State(), SinkState::kReady);
  context.TryCancel();
  EXPECT_TRUE(engine_.WaitForWakes(1));
  EXPECT_EQ(submitted.sink->State(), SinkState::kCancelled);
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  // The reactor is gone, though the engine has not let go of the sink.
  EXPECT_TRUE(server_.calls.WaitUntilIdle(absl::Now() + absl::Seconds(20)));
  submitted.sink->OnOutput({"b", {{2, {}, {}}}});
  submitted.sink->OnDone({});
}

TEST_F(GenerationServiceTest, ADeadlineReachesTheEngine) {
  grpc::ClientContext context;
  const absl::Time deadline = absl::Now() + absl::Milliseconds(300);
  context.set_deadline(absl::ToChronoTime(deadline));
  const auto reader = stub_->Generate(&context, Prompt("x"));
  const SubmittedRequest submitted = engine_.Next();
  // The wire has it as a duration, so it arrives a little later.
  EXPECT_LT(absl::AbsDuration(submitted.request.deadline - deadline), absl::Milliseconds(250));
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(engine_.WaitForWakes(1)) << "the server's side ends too";
  EXPECT_EQ(submitted.sink->State(), SinkState::kCancelled);
}

// Fills a stream that nobody reads until its sink is backlogged: the bytes that it took.
size_t FillUntilBacklogged(Sink& sink) {
  size_t bytes = 0;
  const std::string text(1000, 'x');
  absl::Time ready_until = absl::Now();
  while (absl::Now() - ready_until < absl::Milliseconds(300)) {
    if (sink.State() == SinkState::kBacklogged) {
      absl::SleepFor(absl::Milliseconds(1));
      continue;
    }
    sink.OnOutput({text, {{1, {}, {}}}});
    bytes += text.size();
    ready_until = absl::Now();
    if (bytes > (size_t{256} << 20)) break;
  }
  return bytes;
}

TEST_F(GenerationServiceTest, ASlowReaderIsHeldBackAndLosesNothing) {
  grpc::ClientContext context;
  const auto reader = stub_->Generate(&context, Prompt("x"));
  const SubmittedRequest submitted = engine_.Next();
  const size_t sent = FillUntilBacklogged(*submitted.sink);
  EXPECT_EQ(submitted.sink->State(), SinkState::kBacklogged);
  // What HTTP/2's windows and the socket's buffers take, and our 64 KiB.
  EXPECT_LT(sent, size_t{32} << 20);
  const int wakes = engine_.wakes();
  size_t received = 0;
  v1::GenerateResponse response;
  std::thread finisher([&] {
    EXPECT_TRUE(engine_.WaitForWakes(wakes + 1));
    submitted.sink->OnDone({});
  });
  while (reader->Read(&response)) received += response.text().size();
  finisher.join();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(received, sent);
}

TEST(GenerationService, AClientThatNeverReadsIsCutOffAfterTheReadLimit) {
  FakeEngine engine;
  TestServer server(/*read_limit=*/absl::Milliseconds(200));
  server.handle.Set(&engine);
  const auto stub = NewStub(server);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, Prompt("x"));
  const SubmittedRequest submitted = engine.Next();
  FillUntilBacklogged(*submitted.sink);
  Outcome outcome;
  outcome.status = absl::ResourceExhaustedError("unread for too long");
  submitted.sink->OnDone(outcome);
  EXPECT_TRUE(server.calls.WaitUntilIdle(absl::Now() + absl::Seconds(20)));
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST_F(GenerationServiceTest, RefusesMessagesOverTheLimit) {
  const auto limit = static_cast<size_t>(MaxReceiveBytes(LoopbackConfig().engine));
  const grpc::Status status = CallOnce(*stub_, Prompt(std::string(limit + 1, 'x')));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("larger than max"));
}

TEST_F(GenerationServiceTest, DoesNotInflate) {
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  const auto reader = stub_->Generate(&context, Prompt(std::string(100'000, 'x')));
  v1::GenerateResponse response;
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(GenerationServiceTest, ManyStreamsAtOnceEachGetTheirOwn) {
  constexpr int kStreams = 64;
  std::thread engine_thread([this] {
    std::vector<SubmittedRequest> requests;
    requests.reserve(kStreams);
    for (int i = 0; i < kStreams; ++i) requests.push_back(engine_.Next());
    for (int step = 0; step < 50; ++step) {
      for (const SubmittedRequest& request : requests) {
        request.sink->OnOutput({*request.request.text + ",", {{step, {}, {}}}});
      }
    }
    for (const SubmittedRequest& request : requests) request.sink->OnDone({});
  });
  const auto channel = server_.NewChannel();
  std::vector<std::thread> clients;
  clients.reserve(kStreams);
  for (int i = 0; i < kStreams; ++i) {
    clients.emplace_back([&channel, i] {
      const auto stub = v1::GenerationService::NewStub(channel);
      grpc::ClientContext context;
      const std::string name = std::to_string(i);
      const auto reader = stub->Generate(&context, Prompt(name));
      v1::GenerateResponse response;
      std::string text;
      int next = 0;
      while (reader->Read(&response)) {
        text += response.text();
        for (const uint32_t id : response.token_ids()) EXPECT_EQ(id, static_cast<uint32_t>(next++));
      }
      EXPECT_TRUE(reader->Finish().ok());
      std::string expected;
      for (int step = 0; step < 50; ++step) expected += name + ",";
      EXPECT_EQ(text, expected);
    });
  }
  for (std::thread& client : clients) client.join();
  engine_thread.join();
}

TEST(GrpcServer, NamesAnAddressThatItCannotHave) {
  const TestServer first;
  ServerConfig config = LoopbackConfig();
  config.listen = first.server->address();
  RecordingObserver observer;
  DeliveryThread delivery;
  ActiveCalls calls;
  EngineHandle handle;
  RecordingRefusals refusals;
  Gate gate({}, nullptr, &refusals);
  const auto second =
      GrpcServer::Start(config, {&handle, &observer, &delivery, &calls, absl::Seconds(1), &gate});
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(std::string(second.status().message()),
            "--listen=" + config.listen + ": cannot listen there: Address already in use");
}

TEST(GrpcServer, TakesTheLargestPromptThatTheLimitsAllow) {
  EngineConfig config;
  EXPECT_EQ(MaxReceiveBytes(config), int64_t{4} << 20);
  config.max_text_bytes = int64_t{64} << 20;
  EXPECT_GE(MaxReceiveBytes(config), int64_t{65} << 20);
  config.max_prompt_tokens = 16'777'216;
  EXPECT_GE(MaxReceiveBytes(config), int64_t{80} << 20);
  config.max_text_bytes = int64_t{1} << 30;
  EXPECT_GE(MaxReceiveBytes(config), int64_t{1} << 30);
}

}  // namespace
}  // namespace sluice
