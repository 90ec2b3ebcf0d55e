// What a sequence's scan does not depend on: its batch, its slot, the threads, and where its tokens
// are split.
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/selective_scan_problem.h"

namespace sluice {
namespace {

class SelectiveScanSplitTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, SelectiveScanSplitTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(SelectiveScanSplitTest, ASequenceDoesNotDependOnItsBatchNorOnItsSlot) {
  for (const int64_t state_size : {16, 128}) {
    const ScanProblem p =
        MakeScanProblem({40, state_size, 8, true, 3, {70, 2}}, ActivationTypes().back(), 750);
    const ScanOutcome all = RunScan(device(), p);
    int64_t row = 0;
    for (const TokenRun& run : Sequences(p)) {
      ScanProblem one = PartOf(p, row, run, p.State(run.slot));
      if (row < static_cast<int64_t>(p.slots.size())) {
        one.slots = {0};
        one.runs.clear();
      }
      const ScanOutcome alone = RunScan(device(), one);
      EXPECT_TRUE(SameBits(alone.out, Part(all.out, row * p.channels, run.length * p.channels)));
      EXPECT_TRUE(
          SameBits(alone.states, Part(all.states, run.slot * p.StateSize(), p.StateSize())));
      row += run.length;
    }
  }
}

TEST_P(SelectiveScanSplitTest, ARowOfManyIsThatRowAlone) {
  const ScanProblem p = MakeScanProblem({520, 16, 0, true, 300, {}}, ActivationTypes().back(), 755);
  const ScanOutcome all = RunScan(device(), p);
  for (const int64_t row : {0, 1, 150, 299}) {
    ScanProblem one = PartOf(p, row, {1, 0, 0}, p.State(p.slots[row]));
    one.slots = {0};
    one.runs.clear();
    const ScanOutcome alone = RunScan(device(), one);
    EXPECT_TRUE(SameBits(alone.out, Part(all.out, row * p.channels, p.channels)));
    EXPECT_TRUE(
        SameBits(alone.states, Part(all.states, p.slots[row] * p.StateSize(), p.StateSize())));
  }
}

// The problem's one run in parts that end after `ends` tokens, a part of one token as a decode row.
ScanOutcome ScanInParts(Device& device, const ScanProblem& p, const std::vector<int32_t>& ends) {
  ScanOutcome parts = {{}, p.State(p.runs[0].slot)};
  int32_t begin = 0;
  for (const int32_t end : ends) {
    ScanProblem part = PartOf(p, begin, {end - begin, p.runs[0].position + begin, 0}, parts.states);
    if (end - begin == 1) {
      part.slots = {0};
      part.runs.clear();
    }
    const ScanOutcome got = RunScan(device, part);
    parts.out.insert(parts.out.end(), got.out.begin(), got.out.end());
    parts.states = got.states;
    begin = end;
  }
  return parts;
}

// A prompt of `length` tokens from position 101 on: the grid of chunks lies before tokens 27, 91,
// ..
ScanProblem Prompt(int64_t state_size, int32_t length, DType dtype) {
  ScanProblem p =
      MakeScanProblem({40, state_size, 8, true, 0, {length}, ScanSteps::kMixed}, dtype, 760);
  p.runs[0].position = 101;
  return p;
}

TEST_P(SelectiveScanSplitTest, ASplitOnTheGridChangesNoBit) {
  for (const int64_t state_size : {8, 16, 24, 64, 72, 256}) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " N=" << state_size);
      const ScanProblem p = Prompt(state_size, 700, dtype);
      const ScanOutcome whole = RunScan(device(), p);
      const std::vector<float> state =
          Part(whole.states, p.runs[0].slot * p.StateSize(), p.StateSize());
      for (const std::vector<int32_t>& ends :
           std::vector<std::vector<int32_t>>{{27, 700}, {603, 700}, {27, 91, 700}}) {
        const ScanOutcome parts = ScanInParts(device(), p, ends);
        EXPECT_TRUE(SameBits(parts.out, whole.out)) << ends[0];
        EXPECT_TRUE(SameBits(parts.states, state)) << ends[0];
      }
    }
  }
}

TEST_P(SelectiveScanSplitTest, ASplitAnywhereIsTheSameFunction) {
  for (const DType dtype : ActivationTypes()) {
    const ScanProblem p = Prompt(16, 150, dtype);
    const ScanOutcome whole = RunScan(device(), p);
    const std::vector<float> state =
        Part(whole.states, p.runs[0].slot * p.StateSize(), p.StateSize());
    for (const std::vector<int32_t>& ends :
         std::vector<std::vector<int32_t>>{{1, 150}, {16, 31, 65, 150}, {148, 149, 150}}) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << ends[0]);
      const ScanOutcome parts = ScanInParts(device(), p, ends);
      if (is_cuda()) {
        const bool rounded = dtype == DType::kBFloat16;
        EXPECT_TRUE(Near(parts.out, {whole.out.begin(), whole.out.end()},
                         rounded ? kScanBFloat16Tolerance : kScanTolerance));
        EXPECT_TRUE(Near(parts.states, {state.begin(), state.end()}, kScanTolerance));
      } else {
        EXPECT_TRUE(SameBits(parts.out, whole.out));
        EXPECT_TRUE(SameBits(parts.states, state));
      }
    }
  }
}

TEST(SelectiveScanThreads, GiveTheSameBits) {
  const ScanProblem p = MakeScanProblem({200, 24, 0, true, 9, {33, 70}}, DType::kFloat32, 780);
  const ScanOutcome one = RunScan(*CreateCpuDevice(1), p);
  const ScanOutcome three = RunScan(*CreateCpuDevice(3), p);
  EXPECT_TRUE(SameBits(one.out, three.out));
  EXPECT_TRUE(SameBits(one.states, three.states));
}

}  // namespace
}  // namespace sluice
