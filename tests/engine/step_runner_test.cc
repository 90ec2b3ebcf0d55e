#include "engine/step_runner.h"

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "gtest/gtest.h"
#include "tests/engine/op_counter.h"
#include "tests/engine/tiny_model.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

constexpr int32_t kSequences = 11;
constexpr int32_t kSlots = 13;

// Ops kept to be called again, for a device that has no recordings of its own.
class KeptOps : public Recording {
 public:
  explicit KeptOps(std::function<void()> ops) : queue(std::move(ops)) {}
  const std::function<void()> queue;
};

// Records, whatever the device.
class RecordingDevice : public OpCounter {
 public:
  using OpCounter::OpCounter;

  bool RunsBehind() const override { return true; }
  std::unique_ptr<Recording> Record(const std::function<void()>& queue) override {
    ++recorded;
    std::unique_ptr<Recording> recording = OpCounter::Record(queue);
    return recording == nullptr ? std::make_unique<KeptOps>(queue) : std::move(recording);
  }
  void Play(const Recording& recording) override {
    ++played;
    const auto* const kept = dynamic_cast<const KeptOps*>(&recording);
    kept == nullptr ? OpCounter::Play(recording) : kept->queue();
  }

  int recorded = 0;
  int played = 0;
};

// Records nothing and does nothing behind the caller's back, whatever the device.
class PlainDevice : public OpCounter {
 public:
  using OpCounter::OpCounter;
  bool RunsBehind() const override { return false; }
  std::unique_ptr<Recording> Record(const std::function<void()>& /*queue*/) override {
    return nullptr;
  }
};

// A tiny model, and some sequences in its slots.
class TinySteps {
 public:
  TinySteps(const TinyModel& files, Device* device, const StateFormat& state = {})
      : device_(device), model_(*ReadModelConfig(files.path()), device, DType::kFloat32, state) {
    EXPECT_TRUE(model_.Load(**Checkpoint::Open(files.path()), nullptr).ok());
    pool_ = *StatePool::Create(device, model_.SlotFloats(), kSlots);
    runner_ = *StepRunner::Create(device, &model_, pool_.get(), 256);
    EXPECT_TRUE(runner_->WarmUp().ok());
    for (int32_t i = 0; i < kSequences; ++i) {
      Sequence& sequence = sequences_.emplace_back();
      for (int32_t t = 0; t <= i; ++t) sequence.tokens.push_back(3 * t + 17 * i);
      sequence.prompt_length = i + 1;
      sequence.sampling.seed = i;
      sequence.slot = pool_->Acquire();
    }
    sequences_[1].logprobs = true;
    sequences_[1].top_logprobs = 2;
    sequences_[2].bias = {{7, 3.0F}, {9, -1.0F}};
    sequences_[3].keeps_counts = true;
    sequences_[3].sampling.repetition_penalty = 2.0F;
    for (const Sequence& sequence : sequences_) runner_->Admit(sequence);
  }

  // A step of every prompt, or of the next token of the first `count` sequences.
  void Prefill() {
    StepPlan plan;
    for (Sequence& sequence : sequences_) {
      plan.prefill.push_back({&sequence, 0, sequence.prompt_length});
    }
    Do(plan);
  }
  void Decode(int32_t count) {
    StepPlan plan;
    for (int32_t i = 0; i < count; ++i) plan.decode.push_back(&sequences_[i]);
    Do(plan);
  }

  const std::vector<OutputToken>& drawn() const { return drawn_; }
  std::vector<std::byte> StateOf(int32_t sequence) const { return Slot(sequences_[sequence].slot); }
  std::vector<std::byte> Sink() const { return Slot(pool_->sink()); }

 private:
  std::vector<std::byte> Slot(int32_t slot) const {
    std::vector<std::byte> state(pool_->slot_bytes());
    device_->Download(state.data(), pool_->states() + slot * pool_->slot_floats(),
                      pool_->slot_bytes());
    return state;
  }
  void Do(const StepPlan& plan) {
    runner_->Start(plan);
    StepResults results = runner_->Finish();
    EXPECT_EQ(results.drawn.size(), plan.decode.size() + plan.prefill.size());
    for (TokenResult& result : results.drawn) {
      result.sequence->tokens.push_back(result.token.token);
      drawn_.push_back(std::move(result.token));
    }
  }

  Device* device_;
  Model model_;
  std::unique_ptr<StatePool> pool_;
  std::unique_ptr<StepRunner> runner_;
  std::vector<Sequence> sequences_;
  std::vector<OutputToken> drawn_;
};

class StepRunnerTest : public testing::TestWithParam<DeviceKind> {
 protected:
  // Runs of the same steps, in which more and fewer sequences decode.
  static void DoSteps(TinySteps* run) {
    run->Prefill();
    for (int32_t step = 0; step < 2 * kSequences; ++step) run->Decode(step % kSequences + 1);
  }

  // Whether recorded steps and others end in the same tokens and states. The devices are batch
  // invariant.
  void ExpectTheSame(const StateFormat& state) {
    RecordingDevice recording(OpenTestDevice(GetParam()));
    PlainDevice plain(OpenTestDevice(GetParam()));
    TinySteps recorded(files_, &recording, state);
    TinySteps direct(files_, &plain, state);
    DoSteps(&recorded);
    DoSteps(&direct);
    EXPECT_EQ(recording.played, 2 * kSequences);
    ASSERT_EQ(recorded.drawn().size(), direct.drawn().size());
    for (size_t i = 0; i < direct.drawn().size(); ++i) {
      const OutputToken& got = recorded.drawn()[i];
      const OutputToken& want = direct.drawn()[i];
      EXPECT_EQ(got.token, want.token) << i;
      ASSERT_EQ(got.logprob.has_value(), want.logprob.has_value()) << i;
      EXPECT_NEAR(got.logprob.value_or(0), want.logprob.value_or(0), 1e-5) << i;
      ASSERT_EQ(got.top.size(), want.top.size()) << i;
      for (size_t n = 0; n < want.top.size(); ++n) EXPECT_EQ(got.top[n].token, want.top[n].token);
    }
    for (int32_t i = 0; i < kSequences; ++i) {
      EXPECT_TRUE(recorded.StateOf(i) == direct.StateOf(i)) << i;
    }
  }

  TinyModel files_;
};
INSTANTIATE_TEST_SUITE_P(Devices, StepRunnerTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(StepRunnerTest, RecordedStepsDoWhatOthersDo) {
  ExpectTheSame({});
  ExpectTheSame({StateType::kFloat32, 4});
  ExpectTheSame({StateType::kInt8, 4});
}

TEST_P(StepRunnerTest, RowsThatFillUpABatchMoveNoState) {
  RecordingDevice device(OpenTestDevice(GetParam()));
  TinySteps run(files_, &device);
  run.Prefill();
  const std::vector<std::byte> before = run.Sink();
  run.Decode(8);
  EXPECT_EQ(run.Sink(), before);
  const std::vector<std::byte> idle = run.StateOf(10);
  run.Decode(9);  // of 16 rows
  EXPECT_EQ(run.Sink(), before);
  EXPECT_EQ(run.StateOf(10), idle);
}

// As of a sequence that has met a stop string: it has run no step too many (EngineTest), and those
// of others begin before anybody waits for them.
TEST_P(StepRunnerTest, LaterStepsLeaveTheStateOfASequenceThatHasEnded) {
  for (const StateFormat& format : {StateFormat{}, StateFormat{StateType::kInt8, 4}}) {
    RecordingDevice behind(OpenTestDevice(GetParam()));
    PlainDevice plain(OpenTestDevice(GetParam()));
    TinySteps overlapped(files_, &behind, format);
    TinySteps alone(files_, &plain, format);
    for (TinySteps* run : {&overlapped, &alone}) {
      run->Prefill();
      for (int step = 0; step < 3; ++step) run->Decode(kSequences);
    }
    for (int step = 0; step < 3; ++step) overlapped.Decode(kSequences - 1);
    EXPECT_TRUE(overlapped.StateOf(kSequences - 1) == alone.StateOf(kSequences - 1));
  }
}

TEST_P(StepRunnerTest, RecordsAsManyRowsAsThereAreSlots) {
  RecordingDevice device(OpenTestDevice(GetParam()));
  const TinySteps run(files_, &device);
  EXPECT_EQ(device.recorded, 9);  // 1 to 8, and 16
}

TEST_P(StepRunnerTest, AStepWithAPromptIsNotRecorded) {
  RecordingDevice device(OpenTestDevice(GetParam()));
  TinySteps run(files_, &device);
  run.Prefill();
  EXPECT_EQ(device.played, 0);
}

}  // namespace
}  // namespace sluice
