#include "server/request_mapping.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace sluice {
namespace {

TEST(RequestMapping, LeavesUnsetWhatIsNotSet) {
  const Request request = ToRequest(v1::GenerateRequest());
  EXPECT_EQ(request.kind, RequestKind::kGenerate);
  EXPECT_FALSE(request.text.has_value());
  EXPECT_FALSE(request.token_ids.has_value());
  EXPECT_FALSE(request.sampling.temperature.has_value());
  EXPECT_FALSE(request.sampling.seed.has_value());
  EXPECT_FALSE(request.stopping.max_tokens.has_value());
  EXPECT_FALSE(request.logprobs);
  EXPECT_EQ(request.deadline, absl::InfiniteFuture());
}

TEST(RequestMapping, TellsAnEmptyPromptFromNone) {
  v1::GenerateRequest proto;
  proto.set_text("");
  EXPECT_EQ(ToRequest(proto).text, "");
  proto.mutable_token_ids();
  EXPECT_FALSE(ToRequest(proto).text.has_value());
  ASSERT_TRUE(ToRequest(proto).token_ids.has_value());
  EXPECT_TRUE(ToRequest(proto).token_ids->empty());
}

TEST(RequestMapping, KeepsEveryValueForTheEngineToJudge) {
  constexpr uint32_t kMax = std::numeric_limits<uint32_t>::max();
  v1::GenerateRequest proto;
  proto.mutable_token_ids()->add_ids(kMax);
  proto.set_request_id("me");
  v1::SamplingParams& sampling = *proto.mutable_sampling();
  sampling.set_temperature(NAN);
  sampling.set_top_k(kMax);
  sampling.set_top_p(-1.0F);
  sampling.set_min_p(0.25F);
  sampling.set_repetition_penalty(1.5F);
  sampling.set_presence_penalty(-2.0F);
  sampling.set_frequency_penalty(2.0F);
  (*sampling.mutable_logit_bias())[9] = 1.0F;
  (*sampling.mutable_logit_bias())[kMax] = -1.0F;
  (*sampling.mutable_logit_bias())[2] = 0.5F;
  sampling.set_seed(std::numeric_limits<uint64_t>::max());
  v1::StoppingCriteria& stopping = *proto.mutable_stopping();
  stopping.set_max_tokens(kMax);
  for (int i = 0; i < 10'000; ++i) stopping.add_stop("s");
  stopping.add_stop_token_ids(kMax);
  stopping.set_ignore_eos(true);
  proto.mutable_output()->set_logprobs(true);
  proto.mutable_output()->set_top_logprobs(kMax);
  proto.mutable_output()->set_echo(true);

  const Request request = ToRequest(proto);
  EXPECT_EQ(request.id, "me");
  EXPECT_EQ(request.token_ids, std::vector<int64_t>{kMax});
  EXPECT_TRUE(std::isnan(*request.sampling.temperature));
  EXPECT_EQ(request.sampling.top_k, int64_t{kMax});
  EXPECT_EQ(request.sampling.top_p, -1.0F);
  EXPECT_EQ(request.sampling.min_p, 0.25F);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5F);
  EXPECT_EQ(request.sampling.presence_penalty, -2.0F);
  EXPECT_EQ(request.sampling.frequency_penalty, 2.0F);
  const std::vector<std::pair<int64_t, float>> bias = {{2, 0.5F}, {9, 1.0F}, {kMax, -1.0F}};
  EXPECT_EQ(request.sampling.logit_bias, bias);
  EXPECT_EQ(request.sampling.seed, std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(request.stopping.max_tokens, int64_t{kMax});
  EXPECT_EQ(request.stopping.stop.size(), 10'000U);
  EXPECT_EQ(request.stopping.stop_token_ids, std::vector<int64_t>{kMax});
  EXPECT_TRUE(request.stopping.ignore_eos);
  EXPECT_TRUE(request.logprobs);
  EXPECT_EQ(request.top_logprobs, int64_t{kMax});
  EXPECT_TRUE(request.echo);
}

TEST(RequestMapping, ScoresWithLogprobs) {
  v1::ScoreRequest proto;
  proto.set_text("abc");
  proto.set_top_logprobs(3);
  const Request request = ToRequest(proto);
  EXPECT_EQ(request.kind, RequestKind::kScore);
  EXPECT_EQ(request.text, "abc");
  EXPECT_TRUE(request.logprobs);
  EXPECT_EQ(request.top_logprobs, 3);
}

TEST(RequestMapping, SaysWhatStoppedIt) {
  Outcome outcome;
  outcome.reason = FinishReason::kStop;
  outcome.stop_token = 256;
  outcome.request_id = "r";
  outcome.queue_seconds = 0.25;
  outcome.first_token_seconds = 0.5;
  v1::Finished proto;
  SetFinished(outcome, &proto);
  EXPECT_EQ(proto.reason(), v1::FINISH_REASON_STOP);
  EXPECT_TRUE(proto.has_token_id());
  EXPECT_EQ(proto.token_id(), 256U);
  EXPECT_EQ(proto.request_id(), "r");
  EXPECT_EQ(proto.timings().queue_seconds(), 0.25);
  EXPECT_EQ(proto.timings().time_to_first_token_seconds(), 0.5);
}

TEST(RequestMapping, StatusCodesAreGrpcsOwn) {
  EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok());
  EXPECT_EQ(ToGrpcStatus(absl::InvalidArgumentError("m")).error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(ToGrpcStatus(absl::ResourceExhaustedError("m")).error_code(),
            grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ToGrpcStatus(absl::UnavailableError("m")).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ToGrpcStatus(absl::DeadlineExceededError("m")).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(ToGrpcStatus(absl::CancelledError("m")).error_message(), "m");
}

TEST(RequestMapping, CutsMessagesThatTrailersCannotHold) {
  const grpc::Status status = ToGrpcStatus(absl::InvalidArgumentError(std::string(100'000, 'x')));
  EXPECT_LE(status.error_message().size(), 1100U);
}

}  // namespace
}  // namespace sluice
