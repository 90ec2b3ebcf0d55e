#include "server/model_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>

#include "server/version.h"
#include "tests/server/fake_engine.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::HasSubstr;

class ModelServiceTest : public testing::Test {
 protected:
  ModelServiceTest() : stub_(v1::ModelService::NewStub(server_.NewChannel())) {
    server_.handle.Set(&engine_);
  }

  grpc::Status Tokenize(const v1::TokenizeRequest& request, v1::TokenizeResponse* response) {
    grpc::ClientContext context;
    return stub_->Tokenize(&context, request, response);
  }
  grpc::Status Detokenize(const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
    grpc::ClientContext context;
    return stub_->Detokenize(&context, request, response);
  }

  FakeEngine engine_;
  TestServer server_;
  std::unique_ptr<v1::ModelService::Stub> stub_;
};

TEST_F(ModelServiceTest, DescribesTheModelAndItsLimits) {
  grpc::ClientContext context;
  v1::GetModelResponse response;
  ASSERT_TRUE(stub_->GetModel(&context, {}, &response).ok());
  EXPECT_EQ(response.name(), "fake");
  EXPECT_EQ(response.model_type(), "gla");
  EXPECT_EQ(response.parameters(), 1234U);
  EXPECT_EQ(response.state_bytes(), 4096U);
  EXPECT_EQ(response.weight_dtype(), "float32");
  EXPECT_EQ(response.device(), "pretended");
  ASSERT_EQ(response.eos_token_ids_size(), 1);
  EXPECT_EQ(response.limits().max_prompt_tokens(), 100U);
  EXPECT_EQ(response.limits().max_output_tokens(), 50U);
  EXPECT_EQ(response.limits().max_text_bytes(), 1000U);
  EXPECT_EQ(response.limits().state_slots(), 4U);
  EXPECT_EQ(response.limits().max_waiting(), 8U);
  EXPECT_EQ(response.limits().max_top_logprobs(), 20U);
  EXPECT_EQ(response.server_version(), ServerVersion());
}

TEST_F(ModelServiceTest, TokenizesAndBack) {
  v1::TokenizeRequest request;
  request.set_text("h\u00E9");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(Tokenize(request, &tokens).ok());
  EXPECT_GT(tokens.token_ids_size(), 0);
  v1::DetokenizeRequest back;
  *back.mutable_token_ids() = tokens.token_ids();
  v1::DetokenizeResponse text;
  ASSERT_TRUE(Detokenize(back, &text).ok());
  EXPECT_EQ(text.text(), "h\u00E9");
}

TEST_F(ModelServiceTest, SpecialTokensAreKeptOnRequest) {
  v1::DetokenizeRequest request;
  request.add_token_ids(TinyModel::kEos);
  v1::DetokenizeResponse response;
  ASSERT_TRUE(Detokenize(request, &response).ok());
  EXPECT_EQ(response.text(), "");
  request.set_keep_special_tokens(true);
  ASSERT_TRUE(Detokenize(request, &response).ok());
  EXPECT_NE(response.text(), "");
}

TEST_F(ModelServiceTest, RefusesWhatIsOverALimitByName) {
  v1::TokenizeRequest tokenize;
  tokenize.set_text(std::string(1001, 'x'));
  v1::TokenizeResponse tokens;
  grpc::Status status = Tokenize(tokenize, &tokens);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "text: 1001 bytes; the limit is 1000");

  v1::DetokenizeRequest detokenize;
  for (int i = 0; i < 101; ++i) detokenize.add_token_ids(1);
  v1::DetokenizeResponse text;
  status = Detokenize(detokenize, &text);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "token_ids: 101 ids; the limit is 100");

  detokenize.clear_token_ids();
  detokenize.add_token_ids(1);
  detokenize.add_token_ids(4'000'000'000U);
  status = Detokenize(detokenize, &text);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "token_ids[1]: 4000000000 is not in [0, 264)");
}

TEST_F(ModelServiceTest, NamesTheFieldThatIsNotUtf8) {
  std::string response;
  const auto channel = server_.NewChannel();
  for (const char* method : {"/sluice.v1.ModelService/Tokenize", "/sluice.v1.ModelService/Score"}) {
    const grpc::Status status = CallRaw(channel, method, "\x0A\x02\xC3\x28", &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_EQ(status.error_message(), "text: not valid UTF-8") << method;
  }
}

TEST_F(ModelServiceTest, ScoresAText) {
  std::thread engine_thread([this] {
    const SubmittedRequest submitted = engine_.Next();
    EXPECT_EQ(submitted.request.kind, RequestKind::kScore);
    EXPECT_EQ(submitted.request.text, "ab");
    EXPECT_EQ(submitted.request.top_logprobs, 1);
    submitted.sink->OnOutput({"a", {{97, {}, {}}}});
    submitted.sink->OnOutput({"b", {{98, -0.5F, {{99, -0.25F}}}}});
    Outcome outcome;
    outcome.prompt_tokens = 2;
    outcome.prefill_seconds = 0.5;
    submitted.sink->OnDone(outcome);
  });
  v1::ScoreRequest request;
  request.set_text("ab");
  request.set_top_logprobs(1);
  v1::ScoreResponse response;
  grpc::ClientContext context;
  const grpc::Status status = stub_->Score(&context, request, &response);
  engine_thread.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.token_ids_size(), 2);
  ASSERT_EQ(response.logprobs_size(), 2);
  EXPECT_FALSE(response.logprobs(0).has_logprob());
  EXPECT_EQ(response.logprobs(1).logprob(), -0.5F);
  ASSERT_EQ(response.logprobs(1).top_size(), 1);
  EXPECT_EQ(response.logprobs(1).top(0).token_id(), 99U);
  EXPECT_EQ(response.usage().prompt_tokens(), 2U);
  EXPECT_EQ(response.timings().prefill_seconds(), 0.5);
}

TEST_F(ModelServiceTest, ScoreHandsOnErrors) {
  v1::ScoreRequest request;
  v1::ScoreResponse response;
  engine_.SetSubmitStatus(absl::InvalidArgumentError("input: not set"));
  grpc::ClientContext refused;
  grpc::Status status = stub_->Score(&refused, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "input: not set");

  engine_.SetSubmitStatus(absl::OkStatus());
  std::thread engine_thread([this] {
    Outcome outcome;
    outcome.reason = FinishReason::kCancelled;  // draining: half an answer
    engine_.Next().sink->OnDone(outcome);
  });
  grpc::ClientContext cut;
  status = stub_->Score(&cut, request, &response);
  engine_thread.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ModelServiceTest, ACancelledScoreReachesTheEngine) {
  grpc::ClientContext context;
  std::thread engine_thread([this, &context] {
    const SubmittedRequest submitted = engine_.Next();
    EXPECT_EQ(submitted.sink->State(), SinkState::kReady);
    context.TryCancel();
    EXPECT_TRUE(engine_.WaitForWakes(1));
    EXPECT_EQ(submitted.sink->State(), SinkState::kCancelled);
    EXPECT_TRUE(server_.calls.WaitUntilIdle(absl::Now() + absl::Seconds(20)));
    submitted.sink->OnOutput({"a", {{97, {}, {}}}});
    submitted.sink->OnDone({});
  });
  v1::ScoreResponse response;
  const grpc::Status status = stub_->Score(&context, {}, &response);
  engine_thread.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST(ModelService, EveryMethodRefusesWhileTheModelIsLoaded) {
  const TestServer server;
  const auto channel = server.NewChannel();
  for (const char* method : {"GetModel", "Tokenize", "Detokenize", "Score"}) {
    std::string response;
    const grpc::Status status =
        CallRaw(channel, (std::string("/sluice.v1.ModelService/") + method).c_str(), "", &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << method;
    EXPECT_THAT(status.error_message(), HasSubstr("loading")) << method;
  }
}

}  // namespace
}  // namespace sluice
