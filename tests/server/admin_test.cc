// The admin service on its own port.
#include <gmock/gmock.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "server/admin_server.h"
#include "sluice/v1/admin.grpc.pb.h"
#include "tests/server/fake_engine.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class AdminTest : public testing::Test {
 protected:
  AdminTest() : health_(server_.server->health()) { Start("127.0.0.1:0"); }

  void Start(const std::string& address) {
    admin_ = *AdminServer::Start(address,
                                 {&handle_, &health_, [] { return int64_t{7}; },
                                  [this] { ++drains_; }, absl::Now() - absl::Seconds(100)},
                                 grpc::InsecureServerCredentials());
    stub_ = v1::AdminService::NewStub(ConnectedChannel(admin_->address()));
  }
  void Load() { handle_.Set(&engine_); }

  v1::GetStatusResponse GetStatus() {
    grpc::ClientContext context;
    v1::GetStatusResponse response;
    EXPECT_TRUE(stub_->GetStatus(&context, {}, &response).ok());
    return response;
  }
  grpc::Status List(const v1::ListRequestsRequest& request, v1::ListRequestsResponse* response) {
    grpc::ClientContext context;
    return stub_->ListRequests(&context, request, response);
  }
  grpc::Status Cancel(const std::string& id, v1::CancelRequestResponse* response) {
    grpc::ClientContext context;
    v1::CancelRequestRequest request;
    request.set_request_id(id);
    return stub_->CancelRequest(&context, request, response);
  }
  grpc::Status Drain() {
    grpc::ClientContext context;
    v1::DrainResponse response;
    return stub_->Drain(&context, {}, &response);
  }
  grpc::Status SetLevel(v1::LogLevel level) {
    grpc::ClientContext context;
    v1::SetLogLevelRequest request;
    request.set_level(level);
    v1::SetLogLevelResponse response;
    return stub_->SetLogLevel(&context, request, &response);
  }

  FakeEngine engine_;
  EngineHandle handle_;
  TestServer server_;
  Health health_;
  std::atomic<int> drains_{0};
  std::unique_ptr<AdminServer> admin_;
  std::unique_ptr<v1::AdminService::Stub> stub_;
};

TEST_F(AdminTest, SaysHowItIsWhileTheModelIsLoaded) {
  const v1::GetStatusResponse status = GetStatus();
  EXPECT_EQ(status.state(), v1::SERVING_STATE_LOADING);
  EXPECT_EQ(status.slots_total(), 0U);
  EXPECT_EQ(status.connections(), 7U);
  EXPECT_FALSE(status.server_version().empty());
  EXPECT_FALSE(status.server_commit().empty());
  EXPECT_GE(status.uptime_seconds(), 100);
  EXPECT_LT(status.uptime_seconds(), 1000);
  EXPECT_EQ(status.flags().at("--drain-limit"), "30s");
  v1::ListRequestsResponse response;
  EXPECT_EQ(List({}, &response).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::CancelRequestResponse cancelled;
  EXPECT_EQ(Cancel("x", &cancelled).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Drain().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(drains_, 0);
}

TEST_F(AdminTest, SaysHowItServes) {
  Load();
  health_.StartServing(&engine_, absl::Milliseconds(100));
  EngineGauges gauges;
  gauges.running = 3;
  gauges.waiting = 5;
  gauges.waiting_tokens = 700;
  gauges.slots_used = 3;
  gauges.slots_total = 4;
  engine_.SetGauges(gauges);
  v1::GetStatusResponse status = GetStatus();
  EXPECT_EQ(status.state(), v1::SERVING_STATE_SERVING);
  EXPECT_EQ(status.requests_running(), 3U);
  EXPECT_EQ(status.requests_waiting(), 5U);
  EXPECT_EQ(status.waiting_tokens(), 700U);
  EXPECT_EQ(status.slots_used(), 3U);
  EXPECT_EQ(status.slots_total(), 4U);

  engine_.SetStepAge(absl::Seconds(5));
  while (GetStatus().state() == v1::SERVING_STATE_SERVING) absl::SleepFor(absl::Milliseconds(5));
  status = GetStatus();
  EXPECT_EQ(status.state(), v1::SERVING_STATE_STUCK);
  EXPECT_EQ(status.step_seconds(), 5);
  health_.StartDraining();
  EXPECT_EQ(GetStatus().state(), v1::SERVING_STATE_DRAINING);
}

TEST_F(AdminTest, ListsWhatRunsAndWaits) {
  Load();
  LiveRequestState first;
  first.id = "first";
  first.tenant = "acme";
  first.peer = "ipv4:1.2.3.4:5";
  first.kind = RequestKind::kScore;
  first.arrived = absl::Now() - absl::Seconds(50);
  first.prompt_tokens = 30;
  first.output_tokens = 4;
  first.running = true;
  LiveRequestState second;
  second.id = "second";
  second.arrived = absl::Now();
  engine_.SetLiveRequests({first, second});
  v1::ListRequestsResponse response;
  ASSERT_TRUE(List({}, &response).ok());
  EXPECT_EQ(response.total(), 2U);
  ASSERT_EQ(response.requests_size(), 2);
  EXPECT_EQ(response.requests(0).request_id(), "first");
  EXPECT_EQ(response.requests(0).tenant(), "acme");
  EXPECT_EQ(response.requests(0).peer(), "ipv4:1.2.3.4:5");
  EXPECT_EQ(response.requests(0).kind(), v1::REQUEST_KIND_SCORE);
  EXPECT_TRUE(response.requests(0).running());
  EXPECT_GE(response.requests(0).age_seconds(), 50);
  EXPECT_EQ(response.requests(0).prompt_tokens(), 30U);
  EXPECT_EQ(response.requests(0).output_tokens(), 4U);
  EXPECT_EQ(response.requests(1).kind(), v1::REQUEST_KIND_GENERATE);
  EXPECT_FALSE(response.requests(1).running());

  v1::ListRequestsRequest request;
  request.set_max_requests(1);
  ASSERT_TRUE(List(request, &response).ok());
  EXPECT_EQ(response.requests_size(), 1);
  EXPECT_EQ(response.total(), 2U);
  for (const uint32_t wrong : {0U, 10'001U}) {
    request.set_max_requests(wrong);
    const grpc::Status status = List(request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_THAT(status.error_message(), HasSubstr("max_requests"));
  }
}

TEST_F(AdminTest, CancelsByName) {
  Load();
  LiveRequestState live;
  live.id = "find me";
  engine_.SetLiveRequests({live, live});
  v1::CancelRequestResponse response;
  EXPECT_TRUE(Cancel("find me", &response).ok());
  EXPECT_EQ(response.cancelled(), 2U);
  EXPECT_THAT(engine_.cancelled(), ElementsAre("find me"));
  const grpc::Status unknown = Cancel("nobody", &response);
  EXPECT_EQ(unknown.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(unknown.error_message(), HasSubstr("\"nobody\""));
  EXPECT_EQ(Cancel("", &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(AdminTest, AsksForTheDrain) {
  Load();
  EXPECT_TRUE(Drain().ok());
  EXPECT_EQ(drains_, 1);
}

TEST_F(AdminTest, RefusesNoLogLevel) {
  EXPECT_EQ(SetLevel(v1::LOG_LEVEL_UNSPECIFIED).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(SetLevel(static_cast<v1::LogLevel>(99)).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_TRUE(SetLevel(v1::LOG_LEVEL_ERROR).ok());
}

TEST_F(AdminTest, ASocketFileIsItsOwnersAlone) {
  const std::string path = testing::TempDir() + "admin_socket";
  Start("unix:" + path);
  EXPECT_EQ(GetStatus().connections(), 7U);
  struct stat found {};
  ASSERT_EQ(stat(path.c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0600);
}

TEST_F(AdminTest, IsNotThereForClients) {
  const auto stub = v1::AdminService::NewStub(server_.NewChannel());
  grpc::ClientContext context;
  v1::GetStatusResponse response;
  EXPECT_EQ(stub->GetStatus(&context, {}, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(AdminTest, NamesAnAddressThatItCannotHave) {
  const auto second = AdminServer::Start(
      admin_->address(), {&handle_, &health_, [] { return int64_t{0}; }, [] {}, absl::Now()},
      grpc::InsecureServerCredentials());
  EXPECT_EQ(
      std::string(second.status().message()),
      "--admin-listen=" + admin_->address() + ": cannot listen there: Address already in use");
}

}  // namespace
}  // namespace sluice
