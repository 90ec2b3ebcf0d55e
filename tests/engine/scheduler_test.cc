#include "engine/scheduler.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/engine/recording_sink.h"

namespace sluice {
namespace {

using testing::HasSubstr;

class SchedulerTest : public testing::Test {
 protected:
  static constexpr int32_t kSlots = 2;
  static constexpr int32_t kStepTokens = 160;

  SchedulerTest()
      : pool_(*StatePool::Create(device_.get(), 64, kSlots)),
        scheduler_(pool_.get(), {kStepTokens, absl::Seconds(10), absl::Seconds(100)}) {}

  // Adds a sequence with a prompt of `length` tokens and returns it; the scheduler owns it.
  Sequence* Add(int32_t length) {
    auto sequence = std::make_unique<Sequence>();
    sequence->tokens.assign(length, 1);
    sequence->prompt_length = length;
    sequence->max_tokens = 4;
    sequence->deadline = absl::InfiniteFuture();
    sequence->arrived = now_;
    sequence->sink = std::make_shared<RecordingSink>();
    Sequence* raw = sequence.get();
    scheduler_.Add(std::move(sequence));
    return raw;
  }
  static void SetState(Sequence* sequence, SinkState state) {
    static_cast<RecordingSink*>(sequence->sink.get())->SetState(state);
  }
  // Does what a step does to the sequences of a plan.
  static void Run(const StepPlan& plan) {
    for (Sequence* sequence : plan.decode) {
      ++sequence->processed;
      sequence->tokens.push_back(1);
    }
    for (const PrefillPart& part : plan.prefill) {
      part.sequence->processed += part.length;
      if (!part.sequence->prefilling()) part.sequence->tokens.push_back(1);
    }
  }
  // "begin+length" of each prefill part.
  static std::string Parts(const StepPlan& plan) {
    std::string text;
    for (const PrefillPart& part : plan.prefill) {
      text += (text.empty() ? "" : " ") + std::to_string(part.begin) + "+" +
              std::to_string(part.length);
    }
    return text;
  }

  std::unique_ptr<Device> device_ = CreateCpuDevice(1);
  std::unique_ptr<StatePool> pool_;
  Scheduler scheduler_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

TEST_F(SchedulerTest, AdmitsInOrderWhileThereAreSlots) {
  Sequence* first = Add(10);
  Sequence* second = Add(20);
  Sequence* third = Add(30);
  const StepPlan plan = scheduler_.Plan(now_);
  EXPECT_EQ(plan.admitted, (std::vector<Sequence*>{first, second}));
  EXPECT_EQ(Parts(plan), "0+10 0+20");
  EXPECT_EQ(third->slot, -1);
  EXPECT_EQ(scheduler_.waiting(), 1);
  Run(plan);

  scheduler_.Remove(first);
  const StepPlan next = scheduler_.Plan(now_);
  EXPECT_EQ(next.admitted, std::vector<Sequence*>{third});
  EXPECT_EQ(next.decode, std::vector<Sequence*>{second});
}

TEST_F(SchedulerTest, SplitsPromptsOnTheGridUnderTheBudget) {
  Sequence* sequence = Add(300);
  std::string parts;
  while (sequence->prefilling()) {
    const StepPlan plan = scheduler_.Plan(now_);
    parts += Parts(plan) + " ";
    Run(plan);
  }
  EXPECT_EQ(parts, "0+128 128+128 256+44 ");
}

TEST_F(SchedulerTest, DecodesBesidePrompts) {
  Sequence* first = Add(5);
  Run(scheduler_.Plan(now_));
  Add(400);
  const StepPlan plan = scheduler_.Plan(now_);
  EXPECT_EQ(plan.decode, std::vector<Sequence*>{first});
  EXPECT_EQ(Parts(plan), "0+128");
}

TEST_F(SchedulerTest, GivesTheRestOfTheBudgetToTheNextPrompt) {
  Add(70);
  Add(100);
  const StepPlan plan = scheduler_.Plan(now_);
  EXPECT_EQ(Parts(plan), "0+70 0+64");
  Run(plan);
  EXPECT_EQ(Parts(scheduler_.Plan(now_)), "64+36");
}

TEST_F(SchedulerTest, LeavesARestThatEndsBetweenTwoPointsOfTheGrid) {
  Add(100);
  Add(100);
  const StepPlan plan = scheduler_.Plan(now_);
  // 60 tokens of the budget are left, less than a chunk and less than the prompt.
  EXPECT_EQ(Parts(plan), "0+100");
  Run(plan);
  EXPECT_EQ(Parts(scheduler_.Plan(now_)), "0+100");
}

TEST_F(SchedulerTest, EndsCancelledSequencesAndTakesTheirSlotsBack) {
  Sequence* running = Add(10);
  Add(10);
  Sequence* waiting = Add(10);
  Run(scheduler_.Plan(now_));
  SetState(running, SinkState::kCancelled);
  SetState(waiting, SinkState::kCancelled);
  const StepPlan plan = scheduler_.Plan(now_);
  ASSERT_EQ(plan.ended.size(), 2);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(pool_->used(), 1);
  EXPECT_TRUE(pool_->Intact(1));
}

TEST_F(SchedulerTest, EndsSequencesPastTheirDeadline) {
  Sequence* sequence = Add(10);
  sequence->deadline = now_ + absl::Seconds(1);
  EXPECT_TRUE(scheduler_.Plan(now_).ended.empty());
  const StepPlan plan = scheduler_.Plan(now_ + absl::Seconds(1));
  ASSERT_EQ(plan.ended.size(), 1);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(pool_->used(), 0);
}

TEST_F(SchedulerTest, TakesACancellationAtTheDeadlineForTheDeadline) {
  Sequence* late = Add(10);
  Sequence* just_before = Add(10);
  Sequence* early = Add(10);
  late->deadline = now_;
  just_before->deadline = now_ + absl::Milliseconds(100);
  early->deadline = now_ + absl::Milliseconds(101);
  for (Sequence* sequence : {late, just_before, early}) SetState(sequence, SinkState::kCancelled);
  const StepPlan plan = scheduler_.Plan(now_);
  ASSERT_EQ(plan.ended.size(), 3);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(plan.ended[1].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(plan.ended[2].status.code(), absl::StatusCode::kCancelled);
}

TEST_F(SchedulerTest, EndsNothingBeforeItsDeadlineThatWasNotCancelled) {
  Add(10)->deadline = now_ + absl::Milliseconds(1);
  EXPECT_TRUE(scheduler_.Plan(now_).ended.empty());
}

TEST_F(SchedulerTest, EndsWaitingSequencesPastTheirDeadlineWhileAllSlotsAreTaken) {
  Add(10);
  Add(10);
  Sequence* waiting = Add(10);
  waiting->deadline = now_ + absl::Seconds(1);
  Run(scheduler_.Plan(now_));
  const StepPlan plan = scheduler_.Plan(now_ + absl::Seconds(1));
  ASSERT_EQ(plan.ended.size(), 1);
  EXPECT_EQ(plan.ended[0].sequence.get(), waiting);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(pool_->Intact(2));
  EXPECT_EQ(scheduler_.waiting(), 0);
}

TEST_F(SchedulerTest, LeavesOutWhoDoesNotRead) {
  Sequence* slow = Add(10);
  Sequence* quick = Add(10);
  Run(scheduler_.Plan(now_));
  SetState(slow, SinkState::kBacklogged);
  EXPECT_EQ(scheduler_.Plan(now_).decode, std::vector<Sequence*>{quick});
  SetState(slow, SinkState::kReady);
  EXPECT_EQ(scheduler_.Plan(now_).decode, (std::vector<Sequence*>{slow, quick}));
}

TEST_F(SchedulerTest, EndsWhoDoesNotReadForTooLong) {
  Sequence* slow = Add(10);
  Run(scheduler_.Plan(now_));
  SetState(slow, SinkState::kBacklogged);
  EXPECT_TRUE(scheduler_.Plan(now_).ended.empty());
  EXPECT_TRUE(scheduler_.Plan(now_ + absl::Seconds(9)).ended.empty());
  const StepPlan plan = scheduler_.Plan(now_ + absl::Seconds(10));
  ASSERT_EQ(plan.ended.size(), 1);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(SchedulerTest, EndsWhoWaitsTooLongForASlotWhileAllAreTaken) {
  Add(10);
  Add(10);
  Sequence* waiting = Add(10);
  Run(scheduler_.Plan(now_));
  EXPECT_TRUE(scheduler_.Plan(now_ + absl::Seconds(99)).ended.empty());
  const StepPlan plan = scheduler_.Plan(now_ + absl::Seconds(100));
  ASSERT_EQ(plan.ended.size(), 1);
  EXPECT_EQ(plan.ended[0].sequence.get(), waiting);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(plan.ended[0].status.message()), HasSubstr("1m40s (max_queue_time)"));
  EXPECT_EQ(plan.decode.size(), 2) << "who has a slot may take its time";
  EXPECT_EQ(scheduler_.waiting(), 0);
}

TEST_F(SchedulerTest, ADeadlineThatPassedInTheQueueIsTheDeadlines) {
  Add(10);
  Add(10);
  Add(10)->deadline = now_ + absl::Seconds(100);
  Run(scheduler_.Plan(now_));
  const StepPlan plan = scheduler_.Plan(now_ + absl::Seconds(100));
  ASSERT_EQ(plan.ended.size(), 1);
  EXPECT_EQ(plan.ended[0].status.code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(SchedulerTest, EndsWhatAnOperatorCancelled) {
  LiveRequestSet live;
  Sequence* running = Add(10);
  Add(10);
  Sequence* waiting = Add(10);
  Run(scheduler_.Plan(now_));
  running->live = live.Add({"one"});
  waiting->live = live.Add({"two"});
  EXPECT_TRUE(scheduler_.Plan(now_).ended.empty());
  EXPECT_EQ(live.Cancel("one") + live.Cancel("two") + live.Cancel("three"), 2);
  const StepPlan plan = scheduler_.Plan(now_);
  ASSERT_EQ(plan.ended.size(), 2);
  for (const Ended& ended : plan.ended) {
    EXPECT_EQ(ended.status.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(ended.status.message()), HasSubstr("an operator"));
  }
  EXPECT_TRUE(pool_->Intact(1));
}

TEST_F(SchedulerTest, TakesEverythingOutAtTheEnd) {
  Add(10);
  Add(10);
  Add(10);
  Run(scheduler_.Plan(now_));
  EXPECT_EQ(scheduler_.RemoveAll().size(), 3);
  EXPECT_TRUE(pool_->Intact(0));
}

}  // namespace
}  // namespace sluice
