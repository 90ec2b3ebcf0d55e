// The gate in front of the real services: what clients see, and that no call is counted for longer
// than it lasts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/safetensors_writer.h"
#include "tests/server/fake_engine.h"
#include "tests/server/key_entry.h"
#include "tests/server/test_server.h"

namespace sluice {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;

std::unique_ptr<ApiKeyFile> Keys(const ScratchDirectory& directory) {
  const std::string path = directory.Write(
      "keys.json",
      KeyFile({KeyEntry("acme", "full", R"(,"name":"ci")"),
               KeyEntry("acme", "score", R"(,"methods":["Score"])"),
               KeyEntry("acme", "one", R"(,"max_requests":1)"),
               KeyEntry("acme", "rare", R"(,"requests_per_second":0.01)"),
               KeyEntry("acme", "small", R"(,"max_prompt_tokens":4,"max_output_tokens":5)")}));
  return *ApiKeyFile::Open(path, absl::Hours(1), [](const auto&) {});
}

struct Answer {
  grpc::Status status;
  std::string request_id;  // of the initial metadata
  std::string pushback;    // of the trailing metadata
};

std::string Value(const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
                  const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

class GatedServerTest : public testing::Test {
 protected:
  GatedServerTest() { server_.handle.Set(&engine_); }

  // Calls a method that is answered at once.
  Answer Call(const std::string& method, const std::string& key,
              const std::multimap<std::string, std::string>& metadata = {}) {
    grpc::ClientContext context;
    if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
    for (const auto& [name, value] : metadata) context.AddMetadata(name, value);
    Answer answer;
    if (method == "GetModel") {
      answer.status = model_->GetModel(&context, {}, &described_);
    } else if (method == "Tokenize") {
      v1::TokenizeResponse response;
      answer.status = model_->Tokenize(&context, {}, &response);
    } else if (method == "Detokenize") {
      v1::DetokenizeResponse response;
      answer.status = model_->Detokenize(&context, {}, &response);
    } else if (method == "Score") {
      v1::ScoreResponse response;
      answer.status = model_->Score(&context, {}, &response);
    } else {
      const auto reader = generation_->Generate(&context, generate_);
      v1::GenerateResponse response;
      while (reader->Read(&response)) {
      }
      answer.status = reader->Finish();
    }
    answer.request_id = Value(context.GetServerInitialMetadata(), "x-request-id");
    answer.pushback = Value(context.GetServerTrailingMetadata(), "grpc-retry-pushback-ms");
    return answer;
  }

  bool NothingIsCounted() {
    return server_.calls.WaitUntilIdle(absl::Now() + absl::Seconds(20)) &&
           server_.gate.calls_of("key:" + HashDigits("one")) == 0 &&
           server_.gate.calls_of("tenant:acme") == 0;
  }

  ScratchDirectory directory_;
  std::unique_ptr<ApiKeyFile> keys_ = Keys(directory_);
  FakeEngine engine_;
  TestServer server_{absl::Seconds(60), nullptr, {}, keys_.get()};
  std::shared_ptr<grpc::Channel> channel_ = server_.NewChannel();
  std::unique_ptr<v1::GenerationService::Stub> generation_ =
      v1::GenerationService::NewStub(channel_);
  std::unique_ptr<v1::ModelService::Stub> model_ = v1::ModelService::NewStub(channel_);
  v1::GenerateRequest generate_;
  v1::GetModelResponse described_;
};

const char* const kMethods[] = {"Generate", "Score", "Tokenize", "Detokenize", "GetModel"};

TEST_F(GatedServerTest, EveryMethodAsksForAKey) {
  for (const char* method : kMethods) {
    for (const char* key : {"", "wrong"}) {
      const Answer answer = Call(method, key);
      EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << method;
      EXPECT_THAT(answer.status.error_message(), HasSubstr("authorization: Bearer KEY"));
      EXPECT_THAT(answer.request_id, MatchesRegex("r-[0-9a-f]+")) << method;
    }
  }
  EXPECT_EQ(server_.refusals.refusals().size(), 10U);
  EXPECT_TRUE(server_.recorder.outcomes().empty()) << "the gate's refusals are told once";
  EXPECT_TRUE(NothingIsCounted());
}

TEST_F(GatedServerTest, HealthAsksForNoneAndBeginsWithNotServing) {
  EXPECT_EQ(CheckHealth(channel_, ""), "NOT_SERVING") << "until Health says otherwise";
}

TEST_F(GatedServerTest, AMethodThatTheKeyDoesNotAllowIsDenied) {
  for (const char* method : kMethods) {
    if (std::string(method) == "Score") continue;
    const Answer answer = Call(method, "score");
    EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(answer.status.error_message(),
              std::string("this API key of tenant acme may not call ") + method);
  }
}

TEST_F(GatedServerTest, EveryMethodAnswersTheRequestsName) {
  engine_.SetSubmitStatus(absl::UnavailableError("draining"));
  for (const char* method : kMethods) {
    EXPECT_EQ(Call(method, "full", {{"x-request-id", "proxy-7"}}).request_id, "proxy-7") << method;
    const Answer wrong = Call(method, "full", {{"x-request-id", "two words"}});
    EXPECT_EQ(wrong.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_THAT(wrong.status.error_message(), HasSubstr("x-request-id metadata must be"));
    EXPECT_THAT(wrong.request_id, MatchesRegex("r-[0-9a-f]+"));
  }
  generate_.set_request_id("mine");
  EXPECT_EQ(Call("Generate", "full", {{"x-request-id", "two words"}}).request_id, "mine");
  // What was refused before the engine saw it is named alike in the answer and in the log.
  generate_.set_request_id("two words");
  const Answer named = Call("Generate", "full");
  EXPECT_EQ(named.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(named.status.error_message(), HasSubstr("request_id must be"));
  EXPECT_EQ(server_.recorder.outcomes().back().request_id, named.request_id);
}

TEST_F(GatedServerTest, AnOftenCallerIsToldWhenToComeBack) {
  EXPECT_TRUE(Call("GetModel", "rare").status.ok());
  const Answer answer = Call("GetModel", "rare");
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("more often than 0.01 times a second"));
  EXPECT_GT(std::stoi(answer.pushback), 50'000);
  EXPECT_LE(std::stoi(answer.pushback), 100'000);
}

TEST_F(GatedServerTest, AStreamCountsUntilItHasEnded) {
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "one");
  context.AddMetadata("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
  v1::GenerateRequest request;
  request.set_text("x");
  const auto reader = generation_->Generate(&context, request);
  const SubmittedRequest submitted = engine_.Next();
  EXPECT_EQ(submitted.request.origin.tenant, "acme");
  EXPECT_EQ(submitted.request.origin.trace_id, "0af7651916cd43dd8448eb211c80319c");
  EXPECT_THAT(submitted.request.origin.peer, HasSubstr("127.0.0.1"));
  EXPECT_THAT(submitted.request.id, MatchesRegex("r-[0-9a-f]+"));
  const Answer second = Call("GetModel", "one");
  EXPECT_EQ(second.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(second.status.error_message(), HasSubstr("has 1 calls under way"));
  EXPECT_EQ(second.pushback, "");
  submitted.sink->OnDone({});
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(Value(context.GetServerInitialMetadata(), "x-request-id"), submitted.request.id);
  EXPECT_TRUE(NothingIsCounted());
  EXPECT_TRUE(Call("GetModel", "one").status.ok());
}

TEST_F(GatedServerTest, ACancelledCallIsCountedNoLonger) {
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    context.AddMetadata("x-api-key", "one");
    const auto reader = generation_->Generate(&context, {});
    const SubmittedRequest submitted = engine_.Next();
    context.TryCancel();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    EXPECT_TRUE(NothingIsCounted()) << "though the engine has not let go of it";
    submitted.sink->OnDone({});
  }
}

TEST_F(GatedServerTest, AClientThatIsGoneIsCountedNoLonger) {
  {
    const auto own = server_.NewChannel();
    const auto stub = v1::ModelService::NewStub(own);
    grpc::ClientContext context;
    context.AddMetadata("x-api-key", "one");
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(100));
    v1::ScoreResponse response;
    EXPECT_FALSE(stub->Score(&context, {}, &response).ok());
  }
  EXPECT_TRUE(NothingIsCounted());
}

TEST_F(GatedServerTest, WhatTheEngineRefusesIsCountedNoLonger) {
  engine_.SetSubmitStatus(absl::ResourceExhaustedError("the queue is full"));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(Call("Generate", "one").status.error_message(), "the queue is full");
    EXPECT_TRUE(NothingIsCounted());
    EXPECT_EQ(Call("Score", "one").status.error_message(), "the queue is full");
    EXPECT_TRUE(NothingIsCounted());
  }
}

TEST_F(GatedServerTest, AKeysTokenLimitsReachTheEngineAndTheDescription) {
  ASSERT_TRUE(Call("GetModel", "small").status.ok());
  EXPECT_EQ(described_.limits().max_prompt_tokens(), 4U);
  EXPECT_EQ(described_.limits().max_output_tokens(), 5U);
  ASSERT_TRUE(Call("GetModel", "full").status.ok());
  EXPECT_EQ(described_.limits().max_prompt_tokens(), 100U);
  grpc::ClientContext context;
  context.AddMetadata("x-api-key", "small");
  const auto reader = generation_->Generate(&context, {});
  const SubmittedRequest submitted = engine_.Next();
  EXPECT_EQ(submitted.request.client_limits.max_prompt_tokens, 4);
  EXPECT_EQ(submitted.request.client_limits.max_output_tokens, 5);
  submitted.sink->OnDone({});
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
  }
  EXPECT_TRUE(reader->Finish().ok());
}

}  // namespace
}  // namespace sluice
