#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/recording_sink.h"
#include "tests/engine/tiny_model.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

using testing::HasSubstr;

std::string DeviceFlag(DeviceKind kind) { return kind == DeviceKind::kCuda ? "cuda" : "cpu"; }

// More tokens than any machine generates while a test looks on.
constexpr int32_t kEndless = 16'000'000;

Request Prompt(const std::string& text, int64_t max_tokens, float temperature = 0) {
  Request request;
  request.text = text;
  request.stopping.max_tokens = max_tokens;
  request.sampling.temperature = temperature;
  request.sampling.seed = 7;
  request.stopping.ignore_eos = true;  // random weights draw it now and then
  return request;
}

std::string LongText(size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += "It is a truth universally acknowledged, that a single man ";
  return text.substr(0, bytes);
}

std::shared_ptr<RecordingSink> Start(Engine* engine, Request request) {
  auto sink = std::make_shared<RecordingSink>();
  const absl::Status status = engine->Submit(std::move(request), sink);
  EXPECT_TRUE(status.ok()) << status;
  return sink;
}

// What a request gives that runs alone.
std::shared_ptr<RecordingSink> Finish(Engine* engine, Request request) {
  auto sink = Start(engine, std::move(request));
  sink->Wait();
  return sink;
}

class EngineTest : public testing::TestWithParam<DeviceKind> {
 protected:
  std::unique_ptr<Engine> Open(EngineConfig config) {
    config.device = DeviceFlag(GetParam());
    auto engine = Engine::Create(config, nullptr, nullptr);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return engine.ok() ? *std::move(engine) : nullptr;
  }
  std::unique_ptr<Engine> Open() { return Open(TinyConfig(model_.path())); }

  TinyModel model_;
};

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

TEST_P(EngineTest, GivesTheSameTextInABatchAsAlone) {
  auto engine = Open();
  std::vector<Request> requests;
  for (int i = 0; i < 12; ++i) {
    requests.push_back(Prompt(LongText(3 + 61 * i), 20, i % 2 == 0 ? 0.0F : 1.0F));
    requests.back().sampling.seed = 100 + i;
    requests.back().logprobs = true;
  }
  std::vector<std::shared_ptr<RecordingSink>> alone;
  for (const Request& request : requests) alone.push_back(Finish(engine.get(), request));
  std::vector<std::shared_ptr<RecordingSink>> together;
  for (const Request& request : requests) together.push_back(Start(engine.get(), request));
  for (size_t i = 0; i < requests.size(); ++i) {
    together[i]->Wait();
    ASSERT_EQ(together[i]->ids(), alone[i]->ids()) << i;
    for (size_t t = 0; t < 20; ++t) {
      EXPECT_NEAR(*together[i]->tokens()[t].logprob, *alone[i]->tokens()[t].logprob, 1e-4);
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

// Adds up what an engine tells.
class CountingObserver : public EngineObserver {
 public:
  void OnStep(const StepRecord& record) override {
    prefill_rows += record.prefill_rows;
    output_tokens += record.output_tokens;
  }
  void OnFirstToken(double /*seconds*/) override { ++first_tokens; }
  void OnNextToken(double /*seconds*/) override { ++next_tokens; }
  void OnDone(const Outcome& outcome) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    codes_.push_back(outcome.status.code());
    ids_.push_back(outcome.request_id);
  }
  std::vector<absl::StatusCode> codes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return codes_;
  }
  std::vector<std::string> ids() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return ids_;
  }

  std::atomic<int32_t> prefill_rows{0};
  std::atomic<int32_t> output_tokens{0};
  std::atomic<int32_t> first_tokens{0};
  std::atomic<int32_t> next_tokens{0};

 private:
  mutable std::mutex mutex_;
  std::vector<absl::StatusCode> codes_;
  std::vector<std::string> ids_;
};

TEST_P(EngineTest, TellsItsObserverOfEveryRequestOnce) {
  CountingObserver observer;
  EngineConfig config = TinyConfig(model_.path());
  config.device = DeviceFlag(GetParam());
  {
    auto engine = *Engine::Create(config, &observer, nullptr);
    Finish(engine.get(), Prompt(LongText(300), 10));
    const absl::Status refused =
        engine->Submit(Prompt("Hello", 0), std::make_shared<RecordingSink>());
    EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(engine->FinishDraining(absl::Now() + absl::Seconds(10)));
    EXPECT_FALSE(engine->Submit(Prompt("Hello", 5), std::make_shared<RecordingSink>()).ok());
  }
  EXPECT_EQ(observer.codes(), (std::vector<absl::StatusCode>{absl::StatusCode::kOk,
                                                             absl::StatusCode::kInvalidArgument,
                                                             absl::StatusCode::kUnavailable}));
  EXPECT_EQ(observer.prefill_rows, 300);
  EXPECT_EQ(observer.output_tokens, 10);
  EXPECT_EQ(observer.first_tokens, 1);
  EXPECT_EQ(observer.next_tokens, 9);
}

TEST_P(EngineTest, NamesEveryRequestThatItRefuses) {
  CountingObserver observer;
  EngineConfig config = TinyConfig(model_.path());
  config.device = DeviceFlag(GetParam());
  auto engine = *Engine::Create(config, &observer, nullptr);
  const auto refused = [&](Request request) {
    return engine->Submit(std::move(request), std::make_shared<RecordingSink>());
  };
  EXPECT_FALSE(refused(Prompt("Hello", 0)).ok());
  Request late = Prompt("Hello", 5);
  late.deadline = absl::Now() - absl::Seconds(1);
  EXPECT_FALSE(refused(late).ok());
  Request named = Prompt("Hello", 0);
  named.id = "mine";
  EXPECT_FALSE(refused(named).ok());
  Request forged = Prompt("Hello", 5);
  forged.id = "two\nlines";
  EXPECT_THAT(std::string(refused(forged).message()), HasSubstr("request_id"));
  EXPECT_TRUE(engine->FinishDraining(absl::Now() + absl::Seconds(10)));
  EXPECT_FALSE(refused(Prompt("Hello", 5)).ok());
  const testing::Matcher<std::string> made = testing::MatchesRegex("r-[0-9a-f]+");
  EXPECT_THAT(observer.ids(), testing::ElementsAre(made, made, "mine", made, made));
}

TEST_P(EngineTest, CancellationsLeakNoSlot) {
  auto engine = Open();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 40; ++i) {
    sinks.push_back(Start(engine.get(), Prompt(LongText(10 + 13 * i), 5000, 1.0F)));
  }
  for (size_t i = 0; i < sinks.size(); ++i) {
    if (i % 3 == 0) sinks[i]->WaitForTokens(i % 5, absl::Milliseconds(50));
    sinks[i]->SetState(SinkState::kCancelled);
    engine->Wake();
  }
  for (auto& sink : sinks) {
    EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kCancelled);
  }
  EXPECT_TRUE(engine->FinishDraining(absl::Now() + absl::Seconds(10)));
  EXPECT_EQ(engine->Gauges().slots_used, 0);
  EXPECT_EQ(engine->Gauges().running, 0);
  EXPECT_EQ(engine->Gauges().waiting, 0);
}

TEST_P(EngineTest, HonoursDeadlines) {
  auto engine = Open();
  Request request = Prompt("Hello", kEndless, 1.0F);
  request.deadline = absl::Now() + absl::Seconds(1);
  auto sink = Start(engine.get(), request);
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - request.deadline, absl::Seconds(2));
  EXPECT_GT(sink->tokens().size(), 0);
  EXPECT_EQ(engine->Submit(request, sink).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(EngineTest, RefusesAtOnceWhenFull) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 2;
  config.max_waiting = 3;
  auto engine = Open(config);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 5; ++i) sinks.push_back(Start(engine.get(), Prompt("Hello", kEndless, 1.0F)));
  const absl::Status status = engine->Submit(Prompt("Hello", 5), std::make_shared<RecordingSink>());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("2 requests may run and 3 may wait"));
  for (auto& sink : sinks) sink->SetState(SinkState::kCancelled);
  engine->Wake();
  for (auto& sink : sinks) sink->Wait();
  Finish(engine.get(), Prompt("Hello", 5));
}

TEST_P(EngineTest, ABackloggedSinkWaitsWithoutHoldingTheOthers) {
  auto engine = Open();
  auto slow = Start(engine.get(), Prompt("Hello", 500));
  ASSERT_TRUE(slow->WaitForTokens(3));
  slow->SetState(SinkState::kBacklogged);
  EXPECT_EQ(Finish(engine.get(), Prompt("World", 50))->ids().size(), 50);
  const size_t held = slow->tokens().size();
  EXPECT_EQ(Finish(engine.get(), Prompt("World", 50))->ids().size(), 50);
  EXPECT_EQ(slow->tokens().size(), held);
  slow->SetState(SinkState::kReady);
  engine->Wake();
  slow->Wait();
  EXPECT_EQ(slow->ids(), Finish(engine.get(), Prompt("Hello", 500))->ids());
}

TEST_P(EngineTest, EndsASinkThatStaysBacklogged) {
  EngineConfig config = TinyConfig(model_.path());
  config.stall_limit = absl::Milliseconds(100);
  auto engine = Open(config);
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(sink->WaitForTokens(1));
  sink->SetState(SinkState::kBacklogged);
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_P(EngineTest, EndsWhoWaitsPastTheDeadlineBehindASinkThatDoesNotRead) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  auto engine = Open(config);
  auto slow = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(slow->WaitForTokens(1));
  slow->SetState(SinkState::kBacklogged);
  Request request = Prompt("World", 5);
  request.deadline = absl::Now() + absl::Milliseconds(100);
  auto waiting = Start(engine.get(), request);
  const Outcome outcome = waiting->Wait();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_GE(outcome.queue_seconds, 0.09);
  EXPECT_EQ(outcome.prefill_seconds, 0);
}

TEST_P(EngineTest, SaysThatItDrainsAlsoWhenItIsFull) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  config.max_waiting = 0;
  auto engine = Open(config);
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  engine->StartDraining();
  EXPECT_EQ(engine->Submit(Prompt("Hello", 5), std::make_shared<RecordingSink>()).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE(engine->FinishDraining(absl::Now()));
}

TEST_P(EngineTest, DrainsAndThenRefuses) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", 100));
  engine->StartDraining();
  EXPECT_EQ(engine->Submit(Prompt("Hello", 5), sink).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(engine->FinishDraining(absl::Now() + absl::Seconds(30)));
  EXPECT_EQ(sink->ids().size(), 100);
}

TEST_P(EngineTest, CancelsWhatIsLeftWhenTheDrainLimitPasses) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(sink->WaitForTokens(1));
  EXPECT_FALSE(engine->FinishDraining(absl::Now()));
  const Outcome outcome = sink->Wait();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.reason, FinishReason::kCancelled);
}

TEST_P(EngineTest, CancelsAlsoWhatIsSubmittedWhileItIsCancelling) {
  auto engine = Open();
  std::vector<std::vector<std::shared_ptr<RecordingSink>>> accepted(3);
  std::vector<std::thread> clients;
  for (auto& sinks : accepted) {
    clients.emplace_back([&] {
      // A long text, so that many are being read while the engine starts to refuse.
      for (absl::Status status; status.code() != absl::StatusCode::kUnavailable;) {
        auto sink = std::make_shared<RecordingSink>();
        status = engine->Submit(Prompt(LongText(50000), kEndless), sink);
        if (status.ok()) sinks.push_back(sink);
      }
    });
  }
  absl::SleepFor(absl::Milliseconds(30));
  EXPECT_FALSE(engine->FinishDraining(absl::Now()));
  for (std::thread& client : clients) client.join();
  for (const auto& sinks : accepted) {
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->done());
      EXPECT_EQ(sink->Wait().reason, FinishReason::kCancelled);
    }
  }
}

TEST_P(EngineTest, StoppingEndsWhatRuns) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(sink->WaitForTokens(1));
  engine.reset();
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kUnavailable);
}

INSTANTIATE_TEST_SUITE_P(Devices, EngineTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

}  // namespace
}  // namespace sluice
