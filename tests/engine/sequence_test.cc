#include "engine/sequence.h"

#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/tiny_model.h"

namespace sluice {
namespace {

using testing::HasSubstr;

class SequenceTest : public testing::Test {
 protected:
  absl::StatusOr<std::unique_ptr<Sequence>> Make(Request request) {
    return MakeSequence(std::move(request), limits_, defaults_, *tokenizer_);
  }
  static Request TextRequest(const std::string& text) {
    Request request;
    request.text = text;
    return request;
  }
  // Expects a request, good but for what `spoil` does to it, to be refused with a message that
  // holds `what`.
  void ExpectRefused(const std::function<void(Request*)>& spoil, const std::string& what) {
    Request request = TextRequest("text");
    spoil(&request);
    const auto sequence = Make(std::move(request));
    EXPECT_EQ(sequence.status().code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_THAT(std::string(sequence.status().message()), HasSubstr(what));
  }

  RequestLimits limits_ = {TinyModel::kVocab, 100, 50, 1000};
  GenerationDefaults defaults_;
  std::unique_ptr<const Tokenizer> tokenizer_ = *Tokenizer::Parse(ByteTokenizerJson());
};

TEST_F(SequenceTest, ResolvesNeutralDefaults) {
  const auto sequence = Make(TextRequest("ab"));
  ASSERT_TRUE(sequence.ok()) << sequence.status();
  EXPECT_EQ((*sequence)->tokens, (std::vector<int32_t>{'a', 'b'}));
  EXPECT_EQ((*sequence)->sampling.temperature, 1.0F);
  EXPECT_EQ((*sequence)->sampling.top_p, 1.0F);
  EXPECT_EQ((*sequence)->max_tokens, kDefaultMaxTokens);
  EXPECT_FALSE((*sequence)->keeps_counts);
  EXPECT_THAT((*sequence)->id, testing::StartsWith("r-"));
}

TEST_F(SequenceTest, AClientsOwnLimitsHoldBesideTheServers) {
  Request request = TextRequest("abc");
  request.client_limits = {3, 4};
  const auto sequence = Make(request);
  ASSERT_TRUE(sequence.ok()) << sequence.status();
  EXPECT_EQ((*sequence)->max_tokens, 4) << "the default fits the limit";

  request.stopping.max_tokens = 5;
  absl::Status status = Make(request).status();
  EXPECT_EQ(status.message(), "stopping.max_tokens of 5 tokens is over this client's limit of 4");
  EXPECT_TRUE(IsOverClientLimit(status));

  request.stopping.max_tokens = 4;
  request.text = "abcd";
  status = Make(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "prompt of 4 tokens is over this client's limit of 3");
  EXPECT_TRUE(IsOverClientLimit(status));

  request.stopping.max_tokens = 51;
  request.client_limits = {};
  EXPECT_FALSE(IsOverClientLimit(Make(request).status())) << "the server's limit";
}

TEST_F(SequenceTest, PassesTheOriginOn) {
  Request request = TextRequest("abc");
  request.origin.tenant = "acme";
  request.origin.trace_id = "t";
  const auto sequence = Make(request);
  ASSERT_TRUE(sequence.ok()) << sequence.status();
  EXPECT_EQ((*sequence)->origin.tenant, "acme");
  EXPECT_EQ((*sequence)->origin.trace_id, "t");
}

TEST_F(SequenceTest, TakesTheModelsSuggestionsUnlessTheRequestSaysOtherwise) {
  defaults_.temperature = 0.5F;
  defaults_.top_k = 7;
  defaults_.eos_token_ids = {TinyModel::kEos};
  Request request = TextRequest("ab");
  request.sampling.top_k = 3;
  const auto sequence = Make(std::move(request));
  ASSERT_TRUE(sequence.ok()) << sequence.status();
  EXPECT_EQ((*sequence)->sampling.temperature, 0.5F);
  EXPECT_EQ((*sequence)->sampling.top_k, 3);
  EXPECT_EQ((*sequence)->stop_tokens, std::vector<int32_t>{TinyModel::kEos});

  Request ignoring = TextRequest("ab");
  ignoring.stopping.ignore_eos = true;
  EXPECT_TRUE((*Make(std::move(ignoring)))->stop_tokens.empty());
}

TEST_F(SequenceTest, IsGreedyWhereTheModelsAuthorAsksForIt) {
  defaults_.do_sample = false;
  defaults_.temperature = 0.7F;
  EXPECT_EQ((*Make(TextRequest("ab")))->sampling.temperature, 0.0F);
}

TEST_F(SequenceTest, KeepsTheSeedAndDrawsOneOtherwise) {
  Request request = TextRequest("ab");
  request.sampling.seed = 99;
  EXPECT_EQ((*Make(std::move(request)))->sampling.seed, 99);
  EXPECT_NE((*Make(TextRequest("ab")))->sampling.seed, (*Make(TextRequest("ab")))->sampling.seed);
}

TEST_F(SequenceTest, RefusesBadPrompts) {
  ExpectRefused([](Request* r) { r->text = ""; }, "text is empty");
  ExpectRefused([](Request* r) { r->text.reset(); }, "prompt must be set to either");
  ExpectRefused([](Request* r) { r->token_ids = {1}; }, "prompt must be set to either");
  ExpectRefused([](Request* r) { r->text = std::string(1001, 'x'); },
                "text has 1001 bytes; the limit is 1000");
  ExpectRefused([](Request* r) { r->text = std::string(101, 'x'); },
                "prompt has 101 tokens; the limit is 100");
  ExpectRefused([](Request* r) { r->text = "ab\xFFz"; }, "text: ");
  const auto with_ids = [](std::vector<int64_t> ids) {
    return [ids](Request* r) {
      r->text.reset();
      r->token_ids = ids;
    };
  };
  ExpectRefused(with_ids({}), "prompt is empty");
  ExpectRefused(with_ids({1, 264}), "token_ids holds token id 264; ids lie in [0, 264)");
  ExpectRefused(with_ids({-1}), "token_ids holds token id -1");
  ExpectRefused(with_ids(std::vector<int64_t>(101, 1)),
                "token_ids holds 101 tokens; the limit is 100");
}

TEST_F(SequenceTest, RefusesBadSampling) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  ExpectRefused([](Request* r) { r->sampling.temperature = -1; },
                "sampling.temperature is -1; it must lie in [0, 100]");
  ExpectRefused([&](Request* r) { r->sampling.temperature = nan; }, "sampling.temperature is nan");
  ExpectRefused([](Request* r) { r->sampling.temperature = HUGE_VALF; },
                "sampling.temperature is inf");
  ExpectRefused([](Request* r) { r->sampling.top_k = 265; }, "sampling.top_k is 265");
  ExpectRefused([](Request* r) { r->sampling.top_k = -1; }, "sampling.top_k is -1");
  ExpectRefused([](Request* r) { r->sampling.top_p = 0; },
                "sampling.top_p is 0; it must lie in (0, 1]");
  ExpectRefused([&](Request* r) { r->sampling.top_p = nan; }, "sampling.top_p is nan");
  ExpectRefused([](Request* r) { r->sampling.min_p = 1.5F; }, "sampling.min_p is 1.5");
  ExpectRefused([](Request* r) { r->sampling.repetition_penalty = 0; },
                "sampling.repetition_penalty is 0");
  ExpectRefused([](Request* r) { r->sampling.presence_penalty = 3; },
                "sampling.presence_penalty is 3");
  ExpectRefused([&](Request* r) { r->sampling.frequency_penalty = nan; },
                "sampling.frequency_penalty is nan");
  ExpectRefused(
      [](Request* r) {
        r->sampling.logit_bias = {{300, 1.0F}};
      },
      "sampling.logit_bias holds token id 300");
  ExpectRefused(
      [](Request* r) {
        r->sampling.logit_bias = {{3, 101.0F}};
      },
      "sampling.logit_bias is 101");
  ExpectRefused([](Request* r) { r->sampling.logit_bias = {{3, 1.0F}, {3, 2.0F}}; }, "twice");
  ExpectRefused(
      [](Request* r) {
        r->sampling.logit_bias.assign(1025, {3, 1.0F});
      },
      "sampling.logit_bias has 1025 entries; the limit is 1024");
}

TEST_F(SequenceTest, RefusesBadStopping) {
  ExpectRefused([](Request* r) { r->stopping.max_tokens = 0; },
                "stopping.max_tokens is 0; it must lie in [1, 50]");
  ExpectRefused([](Request* r) { r->stopping.max_tokens = 51; }, "stopping.max_tokens is 51");
  ExpectRefused([](Request* r) { r->stopping.stop.assign(10000, "x"); },
                "stopping.stop has 10000 strings; the limit is 16");
  ExpectRefused([](Request* r) { r->stopping.stop = {""}; },
                "stopping.stop holds a string of 0 bytes");
  ExpectRefused([](Request* r) { r->stopping.stop = {std::string(257, 'x')}; }, "257 bytes");
  ExpectRefused([](Request* r) { r->stopping.stop = {"a\xC3"}; },
                "stopping.stop is not valid UTF-8 at byte 1");
  ExpectRefused([](Request* r) { r->stopping.stop_token_ids = {264}; },
                "stopping.stop_token_ids holds token id 264");
  ExpectRefused([](Request* r) { r->stopping.stop_token_ids.assign(65, 1); },
                "stopping.stop_token_ids has 65 ids; the limit is 64");
}

TEST_F(SequenceTest, RefusesBadOutputOptionsAndNames) {
  ExpectRefused(
      [](Request* r) {
        r->top_logprobs = 21;
        r->logprobs = true;
      },
      "output.top_logprobs is 21; it must lie in [0, 20]");
  ExpectRefused([](Request* r) { r->top_logprobs = 1; },
                "output.top_logprobs needs output.logprobs");
  ExpectRefused([](Request* r) { r->id = "two\nlines"; }, "request_id");
  ExpectRefused([](Request* r) { r->id = std::string(129, 'x'); }, "request_id");
}

TEST_F(SequenceTest, NamesTheFieldOfAScoreRequestAsItsProtoDoes) {
  Request request = TextRequest("text");
  request.kind = RequestKind::kScore;
  request.top_logprobs = 21;
  EXPECT_THAT(std::string(Make(std::move(request)).status().message()),
              testing::StartsWith("top_logprobs is 21"));
}

TEST_F(SequenceTest, RefusesAScoreWhoseResponseIsTooLarge) {
  limits_.max_prompt_tokens = 1 << 20;
  const auto score = [&](size_t tokens, int64_t top) {
    Request request;
    request.kind = RequestKind::kScore;
    request.token_ids = std::vector<int64_t>(tokens, 'a');
    request.top_logprobs = top;
    return Make(std::move(request)).status();
  };
  // 979,691 tokens of 14 + 13 * 20 bytes are the most that 256 MiB hold.
  EXPECT_TRUE(score(979691, 20).ok());
  EXPECT_TRUE(score(979692, 19).ok());
  const absl::Status refused = score(979692, 20);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(std::string(refused.message()),
            "top_logprobs is 20, with which a response for 979692 tokens has up to 268435608 "
            "bytes; the limit is 268435456");
}

TEST(IdForLogs, KeepsWhatIsFitAndMakesOneOtherwise) {
  EXPECT_EQ(IdForLogs("mine=1"), "mine=1");
  EXPECT_EQ(IdForLogs(std::string(128, 'x')), std::string(128, 'x'));
  for (const std::string& id : {std::string(), std::string("two\nlines"), std::string("a b"),
                                std::string("\xC3\xA9"), std::string(129, 'x')}) {
    EXPECT_THAT(IdForLogs(id), testing::MatchesRegex("r-[0-9a-f]+")) << id;
  }
  EXPECT_NE(IdForLogs(""), IdForLogs(""));
}

}  // namespace
}  // namespace sluice
