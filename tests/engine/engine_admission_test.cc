// Which requests an engine takes, lets go and gives up, and whom it tells.

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace sluice {
namespace {

using testing::HasSubstr;

class EngineAdmissionTest : public EngineTest {};
INSTANTIATE_TEST_SUITE_P(Devices, EngineAdmissionTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

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

TEST_P(EngineAdmissionTest, TellsItsObserverOfEveryRequestOnce) {
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

TEST_P(EngineAdmissionTest, NamesEveryRequestThatItRefuses) {
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

TEST_P(EngineAdmissionTest, CancellationsLeakNoSlot) {
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

TEST_P(EngineAdmissionTest, HonoursDeadlines) {
  auto engine = Open();
  Request request = Prompt("Hello", kEndless, 1.0F);
  request.deadline = absl::Now() + absl::Seconds(1);
  auto sink = Start(engine.get(), request);
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_LT(absl::Now() - request.deadline, absl::Seconds(2));
  EXPECT_GT(sink->tokens().size(), 0);
  EXPECT_EQ(engine->Submit(request, sink).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_P(EngineAdmissionTest, RefusesAtOnceWhenFull) {
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

TEST_P(EngineAdmissionTest, RefusesAtOnceWhenTooManyPromptTokensWait) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  config.max_waiting_tokens = 100;
  auto engine = Open(config);
  const auto running = Start(engine.get(), Prompt(LongText(300), kEndless, 1.0F));
  ASSERT_TRUE(running->WaitForTokens(1));
  EXPECT_EQ(engine->Gauges().waiting_tokens, 0) << "what runs does not wait";
  auto first = Start(engine.get(), Prompt(LongText(60), 5));
  EXPECT_EQ(engine->Gauges().waiting_tokens, 60);
  const absl::Status status =
      engine->Submit(Prompt(LongText(41), 5), std::make_shared<RecordingSink>());
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("limit of 100 (max_waiting_tokens)"));
  auto second = Start(engine.get(), Prompt(LongText(40), 5));
  EXPECT_EQ(engine->Gauges().waiting_tokens, 100);
  EXPECT_EQ(engine->Gauges().waiting, 2) << "the refused one took no place";

  // A cancelled one makes room, and those that run do.
  first->SetState(SinkState::kCancelled);
  engine->Wake();
  first->Wait();
  EXPECT_EQ(engine->Gauges().waiting_tokens, 40);
  running->SetState(SinkState::kCancelled);
  engine->Wake();
  EXPECT_TRUE(second->Wait().status.ok());
  EXPECT_EQ(engine->Gauges().waiting_tokens, 0);
}

TEST_P(EngineAdmissionTest, LetsOneLongPromptWaitAlone) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  config.max_waiting_tokens = 100;
  auto engine = Open(config);
  const auto running = Start(engine.get(), Prompt("Hello", kEndless, 1.0F));
  ASSERT_TRUE(running->WaitForTokens(1));
  const auto lone = Start(engine.get(), Prompt(LongText(300), 5));
  EXPECT_FALSE(engine->Submit(Prompt("x", 5), std::make_shared<RecordingSink>()).ok());
  running->SetState(SinkState::kCancelled);
  engine->Wake();
  EXPECT_TRUE(lone->Wait().status.ok());
}

TEST_P(EngineAdmissionTest, CountsNoTokensOfWhatGetsASlotAtOnce) {
  EngineConfig config = TinyConfig(model_.path());
  config.max_waiting_tokens = 1;
  auto engine = Open(config);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < config.state_slots; ++i) {
    sinks.push_back(Start(engine.get(), Prompt(LongText(200), 5)));
  }
  for (auto& sink : sinks) EXPECT_TRUE(sink->Wait().status.ok());
}

TEST_P(EngineAdmissionTest, EndsWhoWaitsTooLongWhileAllSlotsRunLongRequests) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  config.max_queue_time = absl::Milliseconds(200);
  auto engine = Open(config);
  const auto running = Start(engine.get(), Prompt("Hello", kEndless, 1.0F));
  ASSERT_TRUE(running->WaitForTokens(1));
  const Outcome outcome = Finish(engine.get(), Prompt("World", 5))->Wait();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("200ms (max_queue_time)"));
  EXPECT_GE(outcome.queue_seconds, 0.2);
  EXPECT_FALSE(running->done());
  EXPECT_EQ(engine->Gauges().waiting_tokens, 0);
}

TEST_P(EngineAdmissionTest, ShowsWhatRunsAndWaits) {
  EngineConfig config = TinyConfig(model_.path());
  config.state_slots = 1;
  auto engine = Open(config);
  EXPECT_TRUE(engine->LiveRequests().empty());
  Request request = Prompt(LongText(30), kEndless, 1.0F);
  request.id = "runs";
  request.origin.peer = "ipv4:1.2.3.4:5";
  request.origin.tenant = "acme";
  const auto running = Start(engine.get(), request);
  ASSERT_TRUE(running->WaitForTokens(5));
  request = Prompt(LongText(20), 5);
  request.id = "waits";
  const auto waiting = Start(engine.get(), request);
  const std::vector<LiveRequestState> live = engine->LiveRequests();
  ASSERT_EQ(live.size(), 2);
  EXPECT_EQ(live[0].id, "runs");
  EXPECT_EQ(live[0].peer, "ipv4:1.2.3.4:5");
  EXPECT_EQ(live[0].tenant, "acme");
  EXPECT_TRUE(live[0].running);
  EXPECT_EQ(live[0].prompt_tokens, 30);
  EXPECT_GE(live[0].output_tokens, 5);
  EXPECT_EQ(live[1].id, "waits");
  EXPECT_FALSE(live[1].running);
  EXPECT_EQ(live[1].prompt_tokens, 20);
  EXPECT_EQ(live[1].output_tokens, 0);
  EXPECT_GE(live[1].arrived, live[0].arrived);

  EXPECT_EQ(engine->CancelRequests("nobody"), 0);
  EXPECT_EQ(engine->CancelRequests("runs"), 1);
  const Outcome outcome = running->Wait();
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(std::string(outcome.status.message()), HasSubstr("an operator"));
  EXPECT_TRUE(waiting->Wait().status.ok()) << "the slot is free for the next";
  EXPECT_TRUE(engine->FinishDraining(absl::Now() + absl::Seconds(30)));
  EXPECT_TRUE(engine->LiveRequests().empty());
}

TEST_P(EngineAdmissionTest, CancelsEveryRequestOfAnId) {
  auto engine = Open();
  Request request = Prompt("Hello", kEndless, 1.0F);
  request.id = "twins";
  const auto first = Start(engine.get(), request);
  const auto second = Start(engine.get(), request);
  EXPECT_EQ(engine->CancelRequests("twins"), 2);
  EXPECT_EQ(first->Wait().status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(second->Wait().status.code(), absl::StatusCode::kAborted);
}

TEST_P(EngineAdmissionTest, ABackloggedSinkWaitsWithoutHoldingTheOthers) {
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

TEST_P(EngineAdmissionTest, EndsASinkThatStaysBacklogged) {
  EngineConfig config = TinyConfig(model_.path());
  config.stall_limit = absl::Milliseconds(100);
  auto engine = Open(config);
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(sink->WaitForTokens(1));
  sink->SetState(SinkState::kBacklogged);
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_P(EngineAdmissionTest, EndsWhoWaitsPastTheDeadlineBehindASinkThatDoesNotRead) {
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

}  // namespace
}  // namespace sluice
