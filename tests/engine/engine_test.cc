// What an engine generates and scores.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace sluice {
namespace {

INSTANTIATE_TEST_SUITE_P(Devices, EngineTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST_P(EngineTest, GeneratesUpToTheLimitAndCounts) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", 10));
  const Outcome outcome = sink->Wait();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(sink->tokens().size(), 10);
  EXPECT_EQ(outcome.reason, FinishReason::kLength);
  EXPECT_EQ(outcome.prompt_tokens, 5);
  EXPECT_EQ(outcome.output_tokens, 10);
  EXPECT_EQ(outcome.seed, 7);
  EXPECT_GT(outcome.first_token_seconds, 0);
  EXPECT_NEAR(outcome.first_token_seconds, outcome.queue_seconds + outcome.prefill_seconds, 1e-6);
}

TEST_P(EngineTest, TextIsTheTextOfTheTokens) {
  auto engine = Open();
  auto sink = Finish(engine.get(), Prompt("Hello", 40, 1.0F));
  EXPECT_EQ(sink->text(), *engine->tokenizer().Decode(sink->ids(), true));
}

// What twelve requests of several lengths and temperatures give, each alone and then all at once.
struct AloneAndTogether {
  explicit AloneAndTogether(Engine* engine) {
    std::vector<Request> requests;
    for (int i = 0; i < 12; ++i) {
      requests.push_back(Prompt(LongText(3 + 61 * i), 20, i % 2 == 0 ? 0.0F : 1.0F));
      requests.back().sampling.seed = 100 + i;
      requests.back().logprobs = true;
    }
    for (const Request& request : requests) alone.push_back(Finish(engine, request));
    for (const Request& request : requests) together.push_back(Start(engine, request));
    for (const auto& sink : together) sink->Wait();
  }
  std::vector<std::shared_ptr<RecordingSink>> alone;
  std::vector<std::shared_ptr<RecordingSink>> together;
};

TEST_P(EngineTest, GivesTheSameTextInABatchAsAlone) {
  auto engine = Open();
  const AloneAndTogether sinks(engine.get());
  for (size_t i = 0; i < sinks.alone.size(); ++i) {
    ASSERT_EQ(sinks.together[i]->ids(), sinks.alone[i]->ids()) << i;
    for (size_t t = 0; t < 20; ++t) {
      EXPECT_NEAR(*sinks.together[i]->tokens()[t].logprob, *sinks.alone[i]->tokens()[t].logprob,
                  1e-4);
    }
  }
}

TEST_P(EngineTest, IsDeterministicIfAskedToBe) {
  EngineConfig config = TinyConfig(model_.path());
  config.dtype = "bfloat16";
  config.deterministic = GetParam() == DeviceKind::kCpu ? "auto" : "true";
  const auto engine = Open(config);
  const AloneAndTogether sinks(engine.get());
  for (size_t i = 0; i < sinks.alone.size(); ++i) {
    ASSERT_EQ(sinks.together[i]->ids(), sinks.alone[i]->ids()) << i;
    for (size_t t = 0; t < 20; ++t) {
      EXPECT_EQ(sinks.together[i]->tokens()[t].logprob, sinks.alone[i]->tokens()[t].logprob) << i;
    }
  }
}

TEST_P(EngineTest, HowAPromptIsSplitChangesNothing) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  Request request = Prompt(LongText(700), 12);
  request.logprobs = true;
  std::vector<std::vector<OutputToken>> outputs;
  for (const int32_t step_tokens : {65, 200, 1024}) {
    config.max_step_tokens = step_tokens;
    auto engine = Open(config);
    outputs.push_back(Finish(engine.get(), request)->tokens());
  }
  for (const auto& output : outputs) {
    ASSERT_EQ(output.size(), 12);
    for (size_t t = 0; t < output.size(); ++t) {
      EXPECT_EQ(output[t].token, outputs[0][t].token);
      EXPECT_NEAR(*output[t].logprob, *outputs[0][t].logprob, 1e-4);
    }
  }
}

TEST_P(EngineTest, ScoresLikeItGenerates) {
  auto engine = Open();
  Request generate = Prompt("Once upon", 30);
  generate.logprobs = true;
  auto generated = Finish(engine.get(), generate);
  Request score;
  score.kind = RequestKind::kScore;
  score.token_ids = std::vector<int64_t>{'O', 'n', 'c', 'e', ' ', 'u', 'p', 'o', 'n'};
  for (const int32_t id : generated->ids()) score.token_ids->push_back(id);
  score.top_logprobs = 3;
  auto scored = Finish(engine.get(), score);
  const std::vector<OutputToken> tokens = scored->tokens();
  ASSERT_EQ(tokens.size(), 39);
  EXPECT_FALSE(tokens[0].logprob.has_value());
  for (size_t i = 0; i < 30; ++i) {
    const OutputToken& token = tokens[9 + i];
    EXPECT_NEAR(*token.logprob, *generated->tokens()[i].logprob, 1e-3);
    ASSERT_EQ(token.top.size(), 3);
    EXPECT_EQ(token.top[0].token, token.token);  // greedy took the most likely one
    EXPECT_GE(token.top[0].logprob, token.top[1].logprob);
  }
}

TEST_P(EngineTest, EchoReturnsThePromptFirst) {
  auto engine = Open();
  Request request = Prompt("Echo me", 5);
  request.echo = true;
  request.logprobs = true;
  auto sink = Finish(engine.get(), request);
  EXPECT_EQ(sink->tokens().size(), 12);
  EXPECT_THAT(sink->text(), testing::StartsWith("Echo me"));
  EXPECT_FALSE(sink->tokens()[0].logprob.has_value());
  EXPECT_TRUE(sink->tokens()[1].logprob.has_value());

  request.logprobs = false;
  auto plain = Finish(engine.get(), request);
  EXPECT_EQ(plain->ids(), sink->ids());
  EXPECT_FALSE(plain->tokens()[1].logprob.has_value());
}

TEST_P(EngineTest, StopsAtStopStringsAndTokens) {
  auto engine = Open();
  const std::vector<int32_t> ids = Finish(engine.get(), Prompt("Hello", 20))->ids();
  Request by_token = Prompt("Hello", 20);
  by_token.stopping.stop_token_ids = {ids[5]};
  const size_t first = std::find(ids.begin(), ids.end(), ids[5]) - ids.begin();
  auto sink = Start(engine.get(), by_token);
  Outcome outcome = sink->Wait();
  EXPECT_EQ(outcome.reason, FinishReason::kStop);
  EXPECT_EQ(outcome.stop_token, ids[5]);
  EXPECT_EQ(sink->ids().size(), first + 1);
  EXPECT_EQ(sink->text(), *engine->tokenizer().Decode(absl::MakeSpan(ids).first(first), true));

  // A bias that makes "x" and nothing else certain.
  Request by_text = Prompt("Hello", 20);
  by_text.sampling.logit_bias = {{'x', 100.0F}};
  by_text.stopping.stop = {"xxx"};
  sink = Start(engine.get(), by_text);
  outcome = sink->Wait();
  EXPECT_EQ(outcome.reason, FinishReason::kStop);
  EXPECT_EQ(outcome.stop_string, "xxx");
  EXPECT_EQ(sink->text(), "");
  EXPECT_EQ(sink->ids(), (std::vector<int32_t>{'x', 'x', 'x'}));
}

// Counts the rows that decode.
class DecodeCounter : public EngineObserver {
 public:
  void OnStep(const StepRecord& record) override { rows += record.decode_rows; }
  void OnFirstToken(double /*seconds*/) override {}
  void OnNextToken(double /*seconds*/) override {}
  void OnDone(const Outcome& /*outcome*/) override {}

  std::atomic<int32_t> rows{0};
};

// So that a slot's state is that after the last token but one, however steps overlap.
TEST_P(EngineTest, ComputesNothingPastAStop) {
  DecodeCounter counter;
  EngineConfig config = TinyConfig(model_.path());
  config.device = DeviceFlag(GetParam());
  auto engine = *Engine::Create(config, &counter, nullptr);
  Request request = Prompt("Hello", 20);
  request.sampling.logit_bias = {{'x', 100.0F}};
  request.stopping.stop = {"xxx"};
  EXPECT_EQ(Finish(engine.get(), request)->ids().size(), 3U);
  EXPECT_EQ(counter.rows, 2);
  request.stopping = {.max_tokens = 5, .ignore_eos = true};
  EXPECT_EQ(Finish(engine.get(), request)->ids().size(), 5U);
  EXPECT_EQ(counter.rows, 2 + 4);
}

TEST_P(EngineTest, EndsAtTheEndOfSequenceUnlessToldToIgnoreIt) {
  auto engine = Open();
  Request request = Prompt("Hello", 8);
  request.stopping.ignore_eos = false;
  request.sampling.logit_bias = {{TinyModel::kEos, 100.0F}};
  auto sink = Start(engine.get(), request);
  EXPECT_EQ(sink->Wait().stop_token, TinyModel::kEos);
  EXPECT_EQ(sink->text(), "");
  request.stopping.ignore_eos = true;
  sink = Start(engine.get(), request);
  EXPECT_EQ(sink->Wait().reason, FinishReason::kLength);
  EXPECT_EQ(sink->ids(), std::vector<int32_t>(8, TinyModel::kEos));
}

TEST_P(EngineTest, PenaltiesSeePromptAndOutput) {
  auto engine = Open();
  Request request = Prompt("xxxx", 3);
  request.sampling.logit_bias = {{'x', 50.0F}, {'y', 45.0F}};
  request.sampling.repetition_penalty = 10.0F;  // "x" of the prompt falls to 5 or so
  EXPECT_EQ(Finish(engine.get(), request)->ids()[0], 'y');
  request.sampling.repetition_penalty = 1.0F;
  EXPECT_EQ(Finish(engine.get(), request)->ids()[0], 'x');
  // Presence and frequency look at the output alone: "x" wins until it has been drawn often enough.
  request = Prompt("xxxx", 40);
  request.sampling.logit_bias = {{'x', 70.0F}, {'y', 40.0F}};
  EXPECT_EQ(Finish(engine.get(), request)->ids(), std::vector<int32_t>(40, 'x'));
  request.sampling.presence_penalty = 2.0F;
  request.sampling.frequency_penalty = 2.0F;
  const std::vector<int32_t> ids = Finish(engine.get(), request)->ids();
  EXPECT_EQ(ids[0], 'x');
  EXPECT_GE(std::count(ids.begin(), ids.end(), 'y'), 3);
}

TEST_P(EngineTest, PenaltiesForgetWhoHadTheSlotBefore) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  auto engine = Open(config);
  Request request = Prompt("xxxx", 3);
  request.sampling.logit_bias = {{'x', 50.0F}, {'y', 45.0F}};
  request.sampling.repetition_penalty = 10.0F;
  const std::vector<int32_t> ids = Finish(engine.get(), request)->ids();
  request.text = "zzzz";
  EXPECT_EQ(Finish(engine.get(), request)->ids()[0], 'x');
  request.text = "xxxx";
  EXPECT_EQ(Finish(engine.get(), request)->ids(), ids);
}

TEST_P(EngineTest, ASeedDecidesTheDraws) {
  auto engine = Open();
  Request request = Prompt("Hello", 30, 1.0F);
  const std::vector<int32_t> ids = Finish(engine.get(), request)->ids();
  EXPECT_EQ(Finish(engine.get(), request)->ids(), ids);
  request.sampling.seed = 8;
  EXPECT_NE(Finish(engine.get(), request)->ids(), ids);
}

TEST_P(EngineTest, ScoresASingleTokenByNothing) {
  auto engine = Open();
  Request request;
  request.kind = RequestKind::kScore;
  request.token_ids = {'a'};
  request.top_logprobs = 20;
  auto sink = Start(engine.get(), request);
  const Outcome outcome = sink->Wait();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(outcome.output_tokens, 0);
  EXPECT_EQ(outcome.first_token_seconds, 0);
  EXPECT_GT(outcome.prefill_seconds, 0);
  ASSERT_EQ(sink->tokens().size(), 1);
  EXPECT_FALSE(sink->tokens()[0].logprob.has_value());
  EXPECT_TRUE(sink->tokens()[0].top.empty());
}

}  // namespace
}  // namespace sluice
