// The remote backend against a gRPC server in this process that answers from a script.
#include "client/remote_backend.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>
#include <mutex>
#include <thread>

#include "absl/time/clock.h"
#include "client/health.h"

namespace sluice {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Orders the test's thread and gRPC's, as gRPC itself does already; ThreadSanitizer cannot see into
// a library that was built without it.
std::mutex& Gate() {
  static std::mutex gate;
  return gate;
}

void PassGate() { const std::lock_guard<std::mutex> lock(Gate()); }

std::string KeyOf(const grpc::ServerContext& context) {
  const auto found = context.client_metadata().find("authorization");
  if (found == context.client_metadata().end()) return "";
  return {found->second.data(), found->second.size()};
}

class ScriptedGeneration : public v1::GenerationService::Service {
 public:
  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const std::lock_guard<std::mutex> lock(Gate());
    asked = *request;
    key = KeyOf(*context);
    for (const v1::GenerateResponse& response : responses) writer->Write(response);
    if (hang) {
      started.set_value();
      while (!context->IsCancelled()) absl::SleepFor(absl::Milliseconds(1));
      cancelled.set_value();
    }
    return status;
  }

  std::vector<v1::GenerateResponse> responses;
  grpc::Status status;
  bool hang = false;
  v1::GenerateRequest asked;
  std::string key;
  std::promise<void> started;
  std::promise<void> cancelled;
};

class ScriptedModel : public v1::ModelService::Service {
 public:
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest*,
                        v1::GetModelResponse* response) override {
    const std::lock_guard<std::mutex> lock(Gate());
    key = KeyOf(*context);
    *response = model;
    return grpc::Status::OK;
  }
  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    const std::lock_guard<std::mutex> lock(Gate());
    tokenized = *request;
    response->add_token_ids(4);
    response->add_token_ids(5);
    return grpc::Status::OK;
  }
  grpc::Status Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override {
    if (request->token_ids(0) > 9) {
      return {grpc::StatusCode::INVALID_ARGUMENT, "token_ids holds 10; the vocabulary has 10"};
    }
    response->set_text("text");
    return grpc::Status::OK;
  }
  grpc::Status Score(grpc::ServerContext*, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override {
    const std::lock_guard<std::mutex> lock(Gate());
    scored = *request;
    *response = score;
    return grpc::Status::OK;
  }

  v1::GetModelResponse model;
  v1::ScoreResponse score;
  v1::TokenizeRequest tokenized;
  std::string key;
  v1::ScoreRequest scored;
};

class RemoteBackendTest : public ::testing::Test {
 protected:
  void SetUp() override {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&generation_);
    builder.RegisterService(&model_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
    backend_ = std::make_unique<RemoteBackend>(ConnectTo(address_));
  }

  absl::StatusOr<Outcome> Run(const Request& request) {
    PassGate();
    auto outcome =
        backend_->Run(request, [this](const Output& output) { outputs_.push_back(output); });
    PassGate();
    return outcome;
  }

  ScriptedGeneration generation_;
  ScriptedModel model_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
  std::unique_ptr<RemoteBackend> backend_;
  std::vector<Output> outputs_;
};

Request TextRequest(const std::string& text) {
  Request request;
  request.text = text;
  return request;
}

TEST_F(RemoteBackendTest, SendsEveryFieldOfARequest) {
  generation_.responses.emplace_back().mutable_finished();
  Request request = TextRequest("Once");
  request.id = "me";
  request.sampling.temperature = 0.0F;
  request.sampling.top_k = 1;
  request.sampling.top_p = 0.5F;
  request.sampling.min_p = 0.25F;
  request.sampling.repetition_penalty = 2.0F;
  request.sampling.presence_penalty = -1.0F;
  request.sampling.frequency_penalty = 1.0F;
  request.sampling.logit_bias = {{3, -4.0F}};
  request.sampling.seed = 18446744073709551615ULL;
  request.stopping.max_tokens = 5;
  request.stopping.stop = {"x", "y"};
  request.stopping.stop_token_ids = {8};
  request.stopping.ignore_eos = true;
  request.logprobs = true;
  request.top_logprobs = 2;
  request.echo = true;
  ASSERT_TRUE(Run(request).ok());
  EXPECT_EQ(generation_.asked.ShortDebugString(),
            "text: \"Once\" sampling { temperature: 0 top_k: 1 top_p: 0.5 min_p: 0.25 "
            "repetition_penalty: 2 presence_penalty: -1 frequency_penalty: 1 logit_bias { key: 3 "
            "value: -4 } seed: 18446744073709551615 } stopping { max_tokens: 5 stop: \"x\" stop: "
            "\"y\" stop_token_ids: 8 ignore_eos: true } output { logprobs: true top_logprobs: 2 "
            "echo: true } request_id: \"me\"");
}

TEST_F(RemoteBackendTest, ShowsItsKeyWithEveryCall) {
  generation_.responses.emplace_back().mutable_finished();
  ASSERT_TRUE(Run(TextRequest("x")).ok());
  EXPECT_EQ(generation_.key, "") << "it has none";
  backend_ = std::make_unique<RemoteBackend>(ConnectTo(address_), "sl_abc");
  ASSERT_TRUE(Run(TextRequest("x")).ok());
  EXPECT_EQ(generation_.key, "Bearer sl_abc");
  ASSERT_TRUE(backend_->Describe().ok());
  PassGate();
  EXPECT_EQ(model_.key, "Bearer sl_abc");
}

TEST_F(RemoteBackendTest, LeavesUnsetFieldsUnset) {
  generation_.responses.emplace_back().mutable_finished();
  Request request;
  request.token_ids = std::vector<int64_t>{1, 4294967295};
  ASSERT_TRUE(Run(request).ok());
  EXPECT_FALSE(generation_.asked.has_text());
  EXPECT_THAT(generation_.asked.token_ids().ids(), ElementsAre(1U, 4294967295U));
  EXPECT_FALSE(generation_.asked.sampling().has_temperature());
  EXPECT_FALSE(generation_.asked.sampling().has_seed());
  EXPECT_FALSE(generation_.asked.stopping().has_max_tokens());
}

TEST_F(RemoteBackendTest, StreamsOutputsAndReturnsHowItEnded) {
  v1::GenerateResponse& first = generation_.responses.emplace_back();
  first.set_text("It");
  first.add_token_ids(7);
  v1::TokenLogprob* logprob = first.add_logprobs();
  logprob->set_logprob(-0.5F);
  v1::TopLogprob* top = logprob->add_top();
  top->set_token_id(9);
  top->set_logprob(-0.25F);
  v1::GenerateResponse& last = generation_.responses.emplace_back();
  last.set_text(" was");
  last.add_token_ids(8);
  v1::Finished* finished = last.mutable_finished();
  finished->set_reason(v1::FINISH_REASON_STOP);
  finished->set_token_id(8);
  finished->mutable_usage()->set_prompt_tokens(3);
  finished->mutable_usage()->set_output_tokens(2);
  finished->mutable_timings()->set_time_to_first_token_seconds(0.5);
  finished->set_seed(11);
  finished->set_request_id("r");
  const absl::StatusOr<Outcome> outcome = Run(TextRequest("x"));
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  ASSERT_THAT(outputs_, SizeIs(2));
  EXPECT_EQ(outputs_[0].text, "It");
  EXPECT_EQ(outputs_[0].tokens.at(0).token, 7);
  EXPECT_EQ(outputs_[0].tokens.at(0).logprob, -0.5F);
  EXPECT_EQ(outputs_[0].tokens.at(0).top.at(0).token, 9);
  EXPECT_FALSE(outputs_[1].tokens.at(0).logprob.has_value());
  EXPECT_EQ(outcome->reason, FinishReason::kStop);
  EXPECT_EQ(outcome->stop_token, 8);
  EXPECT_FALSE(outcome->stop_string.has_value());
  EXPECT_EQ(outcome->prompt_tokens, 3);
  EXPECT_EQ(outcome->output_tokens, 2);
  EXPECT_EQ(outcome->first_token_seconds, 0.5);
  EXPECT_EQ(outcome->seed, 11U);
  EXPECT_EQ(outcome->request_id, "r");
}

TEST_F(RemoteBackendTest, PassesTheServersErrorOn) {
  generation_.status = {grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"};
  const absl::Status status = Run(TextRequest("x")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(status.message(), "the queue is full");
}

TEST_F(RemoteBackendTest, RefusesAStreamWithoutAnEnd) {
  generation_.responses.emplace_back().set_text("It");
  EXPECT_EQ(Run(TextRequest("x")).status().code(), absl::StatusCode::kInternal);
}

TEST_F(RemoteBackendTest, RefusesWhatNoMessageCanCarryBeforeCalling) {
  const absl::Status text = Run(TextRequest("a\xFF")).status();
  EXPECT_EQ(text.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(text.message()), HasSubstr("text is not valid UTF-8 at byte 1"));
  Request stop = TextRequest("a");
  stop.stopping.stop = {"\x80"};
  EXPECT_THAT(std::string(Run(stop).status().message()), HasSubstr("stop is not valid UTF-8"));
  Request ids;
  ids.token_ids = std::vector<int64_t>{-1};
  EXPECT_THAT(std::string(Run(ids).status().message()), HasSubstr("token_ids is -1"));
  Request top_k = TextRequest("a");
  top_k.sampling.top_k = -2;
  EXPECT_THAT(std::string(Run(top_k).status().message()), HasSubstr("top_k is -2"));
  EXPECT_THAT(backend_->Tokenize("\xFF", true).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(generation_.asked.ShortDebugString(), IsEmpty());
}

TEST_F(RemoteBackendTest, CancelEndsTheCallAtTheServerToo) {
  generation_.hang = true;
  std::thread canceller([&] {
    generation_.started.get_future().wait();
    EXPECT_TRUE(backend_->Cancel());
  });
  const absl::Status status = Run(TextRequest("x")).status();
  canceller.join();
  EXPECT_EQ(status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(generation_.cancelled.get_future().wait_for(std::chrono::seconds(10)),
            std::future_status::ready);
  EXPECT_FALSE(backend_->Cancel()) << "nothing runs any more";
}

TEST_F(RemoteBackendTest, SendsTheDeadline) {
  generation_.hang = true;
  Request request = TextRequest("x");
  request.deadline = absl::Now() + absl::Milliseconds(50);
  EXPECT_EQ(Run(request).status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RemoteBackendTest, Scores) {
  model_.score.add_token_ids(7);
  model_.score.add_token_ids(8);
  model_.score.add_logprobs();
  model_.score.add_logprobs()->set_logprob(-0.5F);
  model_.score.mutable_usage()->set_prompt_tokens(2);
  Request request;
  request.kind = RequestKind::kScore;
  request.token_ids = std::vector<int64_t>{7, 8};
  request.top_logprobs = 3;
  const absl::StatusOr<Outcome> outcome = Run(request);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_EQ(outcome->prompt_tokens, 2);
  EXPECT_EQ(model_.scored.top_logprobs(), 3U);
  ASSERT_THAT(outputs_, SizeIs(1));
  EXPECT_FALSE(outputs_[0].tokens.at(0).logprob.has_value());
  EXPECT_EQ(outputs_[0].tokens.at(1).logprob, -0.5F);
}

TEST_F(RemoteBackendTest, TokenizesBothWays) {
  const auto ids = backend_->Tokenize("a", /*special_tokens=*/false);
  ASSERT_TRUE(ids.ok());
  EXPECT_THAT(*ids, ElementsAre(4, 5));
  PassGate();
  EXPECT_TRUE(model_.tokenized.no_special_tokens());
  const auto text = backend_->Detokenize({4}, /*keep_special_tokens=*/false);
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(*text, "text");
  EXPECT_EQ(backend_->Detokenize({10}, false).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RemoteBackendTest, DescribesTheModel) {
  model_.model.set_name("demo");
  model_.model.set_state_bytes(4096);
  model_.model.mutable_limits()->set_max_waiting(7);
  model_.model.set_server_version("1.2.3");
  PassGate();
  const absl::StatusOr<ModelDescription> model = backend_->Describe();
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->info.model_name, "demo");
  EXPECT_EQ(model->info.state_bytes, 4096);
  EXPECT_EQ(model->info.max_waiting, 7);
  EXPECT_EQ(model->version, "1.2.3");
}

TEST_F(RemoteBackendTest, SaysUnavailableWhenNoServerListens) {
  server_->Shutdown();
  RemoteBackend backend(ConnectTo(address_));
  EXPECT_EQ(backend.Describe().status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(RemoteBackendTest, HealthIsWhatTheServerSays) {
  const auto channel = ConnectTo(address_);
  EXPECT_EQ(CheckHealth(channel, "", absl::Now() + absl::Seconds(10)).value(), "SERVING");
  server_->GetHealthCheckService()->SetServingStatus("slow", false);
  EXPECT_EQ(CheckHealth(channel, "slow", absl::Now() + absl::Seconds(10)).value(), "NOT_SERVING");
  EXPECT_EQ(CheckHealth(channel, "none", absl::Now() + absl::Seconds(10)).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_F(RemoteBackendTest, HealthIsAwaited) {
  server_->GetHealthCheckService()->SetServingStatus("slow", false);
  std::thread later([&] {
    absl::SleepFor(absl::Milliseconds(200));
    server_->GetHealthCheckService()->SetServingStatus("slow", true);
  });
  EXPECT_EQ(AwaitHealth(ConnectTo(address_), "slow", absl::Now() + absl::Seconds(30)).value(),
            "SERVING");
  later.join();
}

}  // namespace
}  // namespace sluice
