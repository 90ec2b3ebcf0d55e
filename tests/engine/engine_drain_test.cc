// How an engine ends: with what runs, with what waits, and with what still comes.

#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/engine_fixture.h"

namespace sluice {
namespace {

class EngineDrainTest : public EngineTest {};
INSTANTIATE_TEST_SUITE_P(Devices, EngineDrainTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(EngineDrainTest, SaysThatItDrainsAlsoWhenItIsFull) {
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

TEST_P(EngineDrainTest, DrainsAndThenRefuses) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", 100));
  engine->StartDraining();
  EXPECT_EQ(engine->Submit(Prompt("Hello", 5), sink).code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(engine->FinishDraining(absl::Now() + absl::Seconds(30)));
  EXPECT_EQ(sink->ids().size(), 100);
}

TEST_P(EngineDrainTest, CancelsWhatIsLeftWhenTheDrainLimitPasses) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(sink->WaitForTokens(1));
  EXPECT_FALSE(engine->FinishDraining(absl::Now()));
  const Outcome outcome = sink->Wait();
  EXPECT_TRUE(outcome.status.ok());
  EXPECT_EQ(outcome.reason, FinishReason::kCancelled);
}

TEST_P(EngineDrainTest, CancelsAlsoWhatIsSubmittedWhileItIsCancelling) {
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

TEST_P(EngineDrainTest, StoppingEndsWhatRuns) {
  auto engine = Open();
  auto sink = Start(engine.get(), Prompt("Hello", kEndless));
  ASSERT_TRUE(sink->WaitForTokens(1));
  engine.reset();
  EXPECT_EQ(sink->Wait().status.code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace sluice
