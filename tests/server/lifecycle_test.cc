// The binary's life from the outside: how it starts, refuses to, drains and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <string>
#include <thread>
#include <vector>

#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"
#include "tests/server/http_get.h"
#include "tests/server/server_process.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

constexpr uint32_t kTokens = 3000;
constexpr uint32_t kEndless = 16'000'000;  // more than any machine makes while a test looks on
constexpr char kAllowEndless[] = "--max-output-tokens=16000000";

using testing::HasSubstr;
using testing::Not;

v1::GenerateRequest LongRequest(uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text("It is a truth universally acknowledged");
  request.mutable_stopping()->set_max_tokens(max_tokens);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

TEST(Lifecycle, StartsServesAndTellsWhere) {
  ServerProcess server;
  EXPECT_EQ(CheckHealth(server.NewChannel(), ""), "SERVING");
  EXPECT_THAT(HttpGet(server.metrics_url()), HasSubstr("sluice_state_slots{state=\"used\"} 0\n"));
  const std::string output = server.process().output();
  EXPECT_THAT(output, HasSubstr(" config flag=--max-waiting value=1024\n"));
  EXPECT_THAT(output, HasSubstr(" start version="));
  EXPECT_THAT(output, HasSubstr(" loading "));
  server.process().Signal(SIGINT);
  EXPECT_EQ(server.process().Wait(), 0) << server.process().output();
}

TEST(Lifecycle, SigtermFinishesTheStreamsAndExitsWithZero) {
  ServerProcess server({"--drain-limit=120s"});
  const auto stub = v1::GenerationService::NewStub(server.NewChannel());
  const auto other = server.NewChannel();
  ASSERT_EQ(CheckHealth(other, ""), "SERVING");
  std::vector<std::thread> clients;
  clients.reserve(4);
  std::atomic<int> begun{0};
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([&stub, &begun] {
      grpc::ClientContext context;
      const auto reader = stub->Generate(&context, LongRequest(kTokens));
      v1::GenerateResponse response;
      size_t tokens = 0;
      EXPECT_TRUE(reader->Read(&response));
      ++begun;
      do {
        tokens += static_cast<size_t>(response.token_ids_size());
      } while (reader->Read(&response));
      EXPECT_TRUE(reader->Finish().ok());
      EXPECT_EQ(tokens, kTokens);
      EXPECT_EQ(response.finished().reason(), v1::FINISH_REASON_LENGTH);
    });
  }
  while (begun < 4) std::this_thread::yield();
  server.process().Signal(SIGTERM);
  EXPECT_NE(server.process().WaitForLine(" draining "), "");
  EXPECT_THAT(server.process().WaitForLine(" draining "), HasSubstr("running=4"))
      << "the streams ended before they could be drained";
  // The connection that is open still answers, and tells the truth.
  EXPECT_EQ(CheckHealth(other, ""), "NOT_SERVING");
  grpc::ClientContext context;
  const auto refused = v1::GenerationService::NewStub(other)->Generate(&context, LongRequest(1));
  v1::GenerateResponse response;
  EXPECT_FALSE(refused->Read(&response));
  const grpc::Status status = refused->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("draining"));
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(server.process().Wait(), 0) << server.process().output();
  EXPECT_THAT(server.process().output(), HasSubstr(" drained requests=finished streams=read\n"));
}

// A signal drains from the first call on that is answered.
TEST(Lifecycle, ASignalDrainsAsSoonAsAnythingIsServed) {
  constexpr int kStarts = 10;  // each may miss a moment in which it does not
  const TinyModel model;
  for (int i = 0; i < kStarts; ++i) {
    ChildProcess process(ServerCommand(model.path().string(), {}));
    const std::string address = LogValue(process.WaitForLine("listening"), "address");
    const auto stub = v1::ModelService::NewStub(ConnectedChannel(address));
    grpc::Status status;
    do {  // until the model is loaded
      grpc::ClientContext context;
      v1::GetModelResponse response;
      status = stub->GetModel(&context, {}, &response);
    } while (status.error_code() == grpc::StatusCode::UNAVAILABLE);
    process.Signal(SIGTERM);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(process.Wait(), 0);
    EXPECT_THAT(process.output(), HasSubstr(" drained requests=finished streams=read\n"));
  }
}

TEST(Lifecycle, TheDrainLimitCutsWhatIsLeft) {
  ServerProcess server({"--drain-limit=0s", kAllowEndless});
  const auto stub = v1::GenerationService::NewStub(server.NewChannel());
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, LongRequest(kEndless));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server.process().Signal(SIGTERM);
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(response.finished().reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_GT(response.finished().usage().output_tokens(), 0U);
  EXPECT_EQ(server.process().Wait(), 0) << server.process().output();
  EXPECT_THAT(server.process().output(), HasSubstr(" drained requests=cut"));
}

TEST(Lifecycle, ASecondSignalEndsItAtOnce) {
  ServerProcess server({"--drain-limit=120s", kAllowEndless});
  const auto stub = v1::GenerationService::NewStub(server.NewChannel());
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, LongRequest(kEndless));
  v1::GenerateResponse response;
  ASSERT_TRUE(reader->Read(&response));
  server.process().Signal(SIGTERM);
  EXPECT_NE(server.process().WaitForLine(" draining "), "");
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 1);
  while (reader->Read(&response)) {
  }
  EXPECT_FALSE(reader->Finish().ok());
}

TEST(Lifecycle, APortInUseEndsItBeforeAnythingIsLoaded) {
  ServerProcess first;
  const TinyModel model;
  ChildProcess second(ServerCommand(model.path().string(), {"--listen=" + first.address()}));
  EXPECT_EQ(second.Wait(), 1);
  EXPECT_THAT(second.output(), HasSubstr("--listen=" + first.address() +
                                         ": cannot listen there: Address already in use"));
  EXPECT_THAT(second.output(), Not(HasSubstr(" loading ")));

  const std::string& url = first.metrics_url();
  const std::string address = url.substr(7, url.find("/metrics") - 7);
  ChildProcess third(ServerCommand(model.path().string(), {"--metrics-listen=" + address}));
  EXPECT_EQ(third.Wait(), 1);
  EXPECT_THAT(third.output(), HasSubstr("--metrics-listen=" + address + ": cannot listen there"));
  EXPECT_THAT(third.output(), Not(HasSubstr(" loading ")));
}

TEST(Lifecycle, AnUnknownModelEndsIt) {
  ChildProcess server(ServerCommand("/no/such/model", {}));
  EXPECT_EQ(server.Wait(), 1);
  EXPECT_THAT(server.output(), HasSubstr(" failed message="));
  EXPECT_THAT(server.output(), HasSubstr("/no/such/model"));
}

TEST(Lifecycle, ABadCommandLineEndsIt) {
  ChildProcess unknown({SLUICE_SERVER_BINARY, "--modle=/m"});
  EXPECT_EQ(unknown.Wait(), 2);
  EXPECT_EQ(unknown.output(), "sluice-server: unknown flag --modle; --help lists all\n");
  ChildProcess missing({SLUICE_SERVER_BINARY});
  EXPECT_EQ(missing.Wait(), 2);
  EXPECT_THAT(missing.output(), HasSubstr("--model is required"));
}

TEST(Lifecycle, ExplainsItself) {
  ChildProcess help({SLUICE_SERVER_BINARY, "--help"});
  EXPECT_EQ(help.Wait(), 0);
  EXPECT_THAT(help.output(), HasSubstr("--drain-limit (30s)\n"));
  ChildProcess version({SLUICE_SERVER_BINARY, "--version"});
  EXPECT_EQ(version.Wait(), 0);
  EXPECT_THAT(version.output(), HasSubstr("sluice-server "));
}

TEST(Lifecycle, LogsALineARequestAndNeverItsText) {
  ServerProcess server({"--log-format=json"});
  const auto stub = v1::GenerationService::NewStub(server.NewChannel());
  v1::GenerateRequest request = LongRequest(5);
  request.set_text("SECRET prompt");
  request.set_request_id("abc\"\\,id=forged");
  request.mutable_sampling()->set_temperature(0);
  grpc::ClientContext context;
  const auto reader = stub->Generate(&context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  ASSERT_TRUE(reader->Finish().ok());
  const std::string line = server.process().WaitForLine("\"event\":\"request\"");
  EXPECT_THAT(line, HasSubstr(R"("id":"abc\"\\,id=forged")")) << line;
  EXPECT_THAT(line, HasSubstr("\"prompt_tokens\":13,\"output_tokens\":5")) << line;
  EXPECT_THAT(line, HasSubstr("\"outcome\":\"length\"")) << line;
  server.process().Signal(SIGTERM);
  EXPECT_EQ(server.process().Wait(), 0);
  EXPECT_THAT(server.process().output(), Not(HasSubstr("SECRET")));
}

}  // namespace
}  // namespace sluice
