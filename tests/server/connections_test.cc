// What a connection to the real gRPC server may do, and for how long.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "sluice/v1/generation.grpc.pb.h"
#include "sluice/v1/model.grpc.pb.h"
#include "tests/server/fake_engine.h"
#include "tests/server/raw_connection.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::HasSubstr;

constexpr char kPreface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

grpc::Status Tokenize(const std::shared_ptr<grpc::Channel>& channel, const std::string& text,
                      size_t header_bytes = 0) {
  grpc::ClientContext context;
  if (header_bytes > 0) context.AddMetadata("x-padding", std::string(header_bytes, 'x'));
  v1::TokenizeRequest request;
  request.set_text(text);
  v1::TokenizeResponse response;
  return v1::ModelService::NewStub(channel)->Tokenize(&context, request, &response);
}

// Whether the channel loses its connection within some seconds.
bool IsDisconnected(const std::shared_ptr<grpc::Channel>& channel) {
  return channel->GetState(false) != GRPC_CHANNEL_READY ||
         channel->WaitForStateChange(GRPC_CHANNEL_READY,
                                     std::chrono::system_clock::now() + std::chrono::seconds(20));
}

class ConnectionsTest : public testing::Test {
 protected:
  TestServer& Start() {
    server_ = std::make_unique<TestServer>(config_);
    server_->handle.Set(&engine_);
    return *server_;
  }

  ServerConfig config_ = LoopbackConfig();
  FakeEngine engine_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(ConnectionsTest, OneOverTheLimitIsRefusedAndTheOthersAreServed) {
  config_.max_connections = 2;
  const TestServer& server = Start();
  auto first = server.NewChannel();
  const auto second = server.NewChannel();
  const RawConnection third(server.server->address());
  EXPECT_TRUE(third.WaitUntilClosed());
  EXPECT_TRUE(Tokenize(first, "x").ok());
  EXPECT_TRUE(Tokenize(second, "x").ok());
  EXPECT_EQ(server.server->Connections().open, 2);
  EXPECT_EQ(server.server->Connections().refused_by_limit, 1);

  // A client that is refused hears UNAVAILABLE, and gets through once there is room.
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  grpc::ChannelArguments own;
  own.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  own.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  own.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  const auto fourth =
      grpc::CreateCustomChannel(server.server->address(), grpc::InsecureChannelCredentials(), own);
  EXPECT_EQ(Tokenize(fourth, "x").error_code(), grpc::StatusCode::UNAVAILABLE);
  first = nullptr;
  EXPECT_TRUE(
      fourth->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20)));
  EXPECT_TRUE(Tokenize(fourth, "x").ok());
}

TEST_F(ConnectionsTest, OneThatSaysNothingIsClosed) {
  config_.handshake_limit = absl::Milliseconds(300);
  const TestServer& server = Start();
  const auto channel = server.NewChannel();
  const RawConnection silent(server.server->address());
  const RawConnection half(server.server->address());
  EXPECT_TRUE(half.Send(std::string(kPreface).substr(0, 10)));
  const RawConnection no_settings(server.server->address());
  EXPECT_TRUE(no_settings.Send(kPreface));
  EXPECT_TRUE(silent.WaitUntilClosed());
  EXPECT_TRUE(half.WaitUntilClosed());
  EXPECT_TRUE(no_settings.WaitUntilClosed());
  EXPECT_TRUE(Tokenize(channel, "x").ok()) << "one that has shaken hands may be silent";
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY);
}

TEST_F(ConnectionsTest, OneThatSpeaksNoHttp2IsClosedAtOnce) {
  const TestServer& server = Start();
  const RawConnection other(server.server->address());
  EXPECT_TRUE(other.Send("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(other.WaitUntilClosed());
  EXPECT_TRUE(Tokenize(server.NewChannel(), "x").ok());
}

TEST_F(ConnectionsTest, OneWithoutACallIsClosedAfterTheIdleLimit) {
  config_.max_connection_idle = absl::Milliseconds(500);
  const TestServer& server = Start();
  const auto channel = server.NewChannel();
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_text("x");
  const auto reader = stub->Generate(&context, request);
  SubmittedRequest submitted = engine_.Next();
  absl::SleepFor(absl::Seconds(1));
  EXPECT_EQ(channel->GetState(false), GRPC_CHANNEL_READY) << "a call is no idleness";
  submitted.sink->OnDone({});
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(IsDisconnected(channel));
}

TEST_F(ConnectionsTest, AnOldOneFinishesItsCallsAndIsClosed) {
  config_.max_connection_age = absl::Milliseconds(500);
  const TestServer& server = Start();
  const auto channel = server.NewChannel();
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.set_text("x");
  const auto reader = stub->Generate(&context, request);
  SubmittedRequest submitted = engine_.Next();
  EXPECT_TRUE(IsDisconnected(channel));
  submitted.sink->OnOutput({"late", {}});
  submitted.sink->OnDone({});
  v1::GenerateResponse response;
  std::string text;
  while (reader->Read(&response)) text += response.text();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(text, "late");
  EXPECT_TRUE(Tokenize(channel, "x").ok()) << "over a new connection";
}

TEST_F(ConnectionsTest, HeadersOverTheLimitAreRefused) {
  config_.max_metadata_bytes = 16384;
  const TestServer& server = Start();
  const auto channel = server.NewChannel();
  EXPECT_TRUE(Tokenize(channel, "x", 15'000).ok());
  // gRPC closes the connection, too. Its client may hear of that first.
  int told = 0;
  for (int i = 0; i < 20; ++i) {
    const grpc::StatusCode code = Tokenize(server.NewChannel(), "x", 20'000).error_code();
    if (code == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      ++told;
    } else {
      EXPECT_EQ(code, grpc::StatusCode::UNAVAILABLE);
    }
  }
  EXPECT_GT(told, 0);
  EXPECT_TRUE(Tokenize(channel, "x", 15'000).ok()) << "others are not touched";
}

TEST_F(ConnectionsTest, AMessageOverTheLimitIsRefused) {
  config_.max_message_bytes = 500;
  const TestServer& server = Start();
  const auto channel = server.NewChannel();
  EXPECT_TRUE(Tokenize(channel, std::string(400, 'x')).ok());
  const grpc::Status status = Tokenize(channel, std::string(600, 'x'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("vs. 500"));
  EXPECT_TRUE(Tokenize(channel, "x").ok());
}

TEST_F(ConnectionsTest, ASocketFileServes) {
  config_.listen = "unix:" + testing::TempDir() + "connections_socket";
  const TestServer& server = Start();
  const auto channel = server.NewChannel();
  EXPECT_TRUE(Tokenize(channel, "x").ok());
  EXPECT_EQ(server.server->Connections().open, 1);
}

TEST_F(ConnectionsTest, ShutsDownWhileConnectionsCome) {
  for (int i = 0; i < 5; ++i) {
    TestServer& server = Start();
    std::atomic<bool> stop{false};
    const std::string address = server.server->address();
    std::thread flood([&] {
      while (!stop) {
        const RawConnection connection(address);
        connection.Send(kPreface);
      }
    });
    EXPECT_TRUE(Tokenize(server.NewChannel(), "x").ok());
    server.server->Shutdown(absl::ZeroDuration());
    stop = true;
    flood.join();
  }
}

}  // namespace
}  // namespace sluice
