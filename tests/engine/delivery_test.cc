#include "engine/delivery.h"

#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/tiny_model.h"

namespace sluice {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

class DeliveryTest : public testing::Test {
 protected:
  std::unique_ptr<Sequence> Make(Request request) {
    auto sequence = MakeSequence(std::move(request), {TinyModel::kVocab, 100, 50, 1000},
                                 GenerationDefaults(), *tokenizer_);
    EXPECT_TRUE(sequence.ok()) << sequence.status();
    return *std::move(sequence);
  }
  static Request Ids(std::vector<int64_t> ids) {
    Request request;
    request.token_ids = std::move(ids);
    return request;
  }
  // A step that processed `processed` tokens, scored these prompt tokens and drew at most one.
  static Delivery Step(Sequence* sequence, int32_t processed, std::initializer_list<int32_t> scored,
                       std::initializer_list<int32_t> drawn) {
    const auto results = [&](std::initializer_list<int32_t> tokens) {
      std::vector<TokenResult> made;
      for (const int32_t token : tokens) made.push_back({sequence, {token, -1.0F, {}}});
      return made;
    };
    std::vector<TokenResult> of_prompt = results(scored);
    std::vector<TokenResult> of_output = results(drawn);
    return Advance(sequence, processed, absl::MakeSpan(of_prompt), absl::MakeSpan(of_output));
  }
  static std::vector<int32_t> TokensOf(const Delivery& delivery) {
    std::vector<int32_t> ids;
    for (const OutputToken& token : delivery.output.tokens) ids.push_back(token.token);
    return ids;
  }

  std::unique_ptr<const Tokenizer> tokenizer_ = *Tokenizer::Parse(ByteTokenizerJson());
};

TEST_F(DeliveryTest, TheFirstTokenMayBeTheLast) {
  Request request = Ids({'a', 'b'});
  request.stopping.max_tokens = 1;
  const auto sequence = Make(request);
  const Delivery delivery = Step(sequence.get(), 2, {}, {'x'});
  EXPECT_EQ(delivery.output.text, "x");
  EXPECT_EQ(TokensOf(delivery), std::vector<int32_t>{'x'});
  ASSERT_TRUE(delivery.finish.has_value());
  EXPECT_EQ(delivery.finish->reason, FinishReason::kLength);
}

TEST_F(DeliveryTest, AStopTokenThatComesFirstGivesItsIdAndNoText) {
  Request request = Ids({'a'});
  request.stopping.stop_token_ids = {'x'};
  const auto sequence = Make(request);
  const Delivery delivery = Step(sequence.get(), 1, {}, {'x'});
  EXPECT_EQ(delivery.output.text, "");
  EXPECT_EQ(TokensOf(delivery), std::vector<int32_t>{'x'});
  ASSERT_TRUE(delivery.finish.has_value());
  EXPECT_EQ(delivery.finish->stop_token, 'x');
}

TEST_F(DeliveryTest, ACharacterMayBeginInThePromptAndEndInTheOutput) {
  Request request = Ids({'a', 0xE2, 0x82});
  request.echo = true;
  const auto sequence = Make(request);
  const Delivery first = Step(sequence.get(), 2, {}, {});
  EXPECT_EQ(first.output.text, "a");
  EXPECT_EQ(TokensOf(first), (std::vector<int32_t>{'a', 0xE2, 0x82}));
  const Delivery second = Step(sequence.get(), 1, {}, {0xAC});
  EXPECT_EQ(second.output.text, "\xE2\x82\xAC");
  EXPECT_EQ(TokensOf(second), std::vector<int32_t>{0xAC});
}

TEST_F(DeliveryTest, ACharacterThatIsCutOffAtTheEndIsReplaced) {
  Request request = Ids({'a'});
  request.stopping.max_tokens = 2;
  const auto sequence = Make(request);
  EXPECT_EQ(Step(sequence.get(), 1, {}, {0xE2}).output.text, "");
  EXPECT_EQ(Step(sequence.get(), 1, {}, {0x82}).output.text, kReplacement);
}

TEST_F(DeliveryTest, AStopStringIsLookedForInTheOutputAlone) {
  Request request = Ids({'x', 'x'});
  request.echo = true;
  request.stopping.stop = {"xxx"};
  const auto sequence = Make(request);
  const Delivery first = Step(sequence.get(), 2, {}, {'x'});
  EXPECT_EQ(first.output.text, "xx");
  EXPECT_FALSE(first.finish.has_value());
  EXPECT_FALSE(Step(sequence.get(), 1, {}, {'x'}).finish.has_value());
  const Delivery last = Step(sequence.get(), 1, {}, {'x'});
  EXPECT_EQ(last.output.text, "");
  ASSERT_TRUE(last.finish.has_value());
  EXPECT_EQ(last.finish->stop_string, "xxx");
}

TEST_F(DeliveryTest, TextHeldBackForAStopStringComesOutAtTheEnd) {
  Request request = Ids({'a'});
  request.stopping.stop = {"xyz"};
  request.stopping.max_tokens = 2;
  const auto sequence = Make(request);
  EXPECT_EQ(Step(sequence.get(), 1, {}, {'x'}).output.text, "");
  const Delivery last = Step(sequence.get(), 1, {}, {'y'});
  EXPECT_EQ(last.output.text, "xy");
  EXPECT_EQ(last.finish->reason, FinishReason::kLength);
}

TEST_F(DeliveryTest, ScoresAPromptInParts) {
  Request request = Ids({'a', 'b', 'c'});
  request.kind = RequestKind::kScore;
  const auto sequence = Make(request);
  const Delivery first = Step(sequence.get(), 2, {'b', 'c'}, {});
  EXPECT_EQ(TokensOf(first), (std::vector<int32_t>{'a', 'b', 'c'}));
  EXPECT_FALSE(first.output.tokens[0].logprob.has_value());
  EXPECT_EQ(first.output.tokens[1].logprob, -1.0F);
  EXPECT_FALSE(first.finish.has_value());
  const Delivery last = Step(sequence.get(), 1, {}, {});
  EXPECT_TRUE(last.output.tokens.empty());
  EXPECT_TRUE(last.finish.has_value());
}

TEST_F(DeliveryTest, TimesOfAnOutcomeAddUpWhereverItEnded) {
  const auto sequence = Make(Ids({'a'}));
  const absl::Time start = absl::FromUnixSeconds(100);
  const auto outcome_at = [&](int seconds) {
    return MakeOutcome(*sequence, {FinishReason::kLength, {}, {}}, absl::OkStatus(),
                       start + absl::Seconds(seconds));
  };
  sequence->arrived = start;
  const Outcome waiting = outcome_at(1);
  EXPECT_EQ(waiting.queue_seconds, 1);
  EXPECT_EQ(waiting.prefill_seconds, 0);
  sequence->planned = start + absl::Seconds(2);
  const Outcome prefilling = outcome_at(5);
  EXPECT_EQ(prefilling.queue_seconds, 2);
  EXPECT_EQ(prefilling.prefill_seconds, 3);
  EXPECT_EQ(prefilling.first_token_seconds, 0);
  sequence->first_token = start + absl::Seconds(6);
  sequence->last_token = start + absl::Seconds(8);
  const Outcome decoded = outcome_at(9);
  EXPECT_EQ(decoded.queue_seconds + decoded.prefill_seconds, decoded.first_token_seconds);
  EXPECT_EQ(decoded.first_token_seconds, 6);
  EXPECT_EQ(decoded.decode_seconds, 2);
}

}  // namespace
}  // namespace sluice
