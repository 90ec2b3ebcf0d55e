#include "kernels/fold_states.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_problem.h"
#include "tests/kernels/replay_problem.h"
#include "tests/kernels/replay_ref.h"
#include "tests/kernels/state_image.h"

namespace sluice {
namespace {

constexpr StateFormat kFormats[] = {
    {StateType::kFloat32, 16}, {StateType::kFloat16, 4}, {StateType::kFloat16, 32},
    {StateType::kInt8, 16},    {StateType::kFloat16, 0}, {StateType::kInt8, 1},
};

Tolerance ToleranceOf(StateType type) {
  if (type == StateType::kFloat32) return {2e-5, 2e-4};
  return type == StateType::kFloat16 ? Tolerance{1e-4, 2e-3} : Tolerance{1.5e-3, 5e-2};
}

class FoldStatesTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, FoldStatesTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

// Three runs of three tokens, in slots 3, 2 and 1.
GatedProblem MakeProblem(const StateFormat& format, const GatedKind& kind) {
  const GatedShape shape = WithState(ScaledShape(DType::kFloat32, 4, 4, 48, 80), format);
  return MakeGatedProblem(shape, std::vector<TokenRun>(3, {3, 0, 0}), Gates::kTypical, 1900, kind);
}

std::vector<float> Slot(const GatedProblem& p, const std::vector<float>& states, int32_t slot) {
  return Part(states, slot * p.shape.StateFloats(), p.shape.StateFloats());
}

void ExpectFolded(const GatedProblem& p, const std::vector<float>& held,
                  const std::vector<float>& folded) {
  std::vector<double> want = UnpackState(p.shape, held);
  ref::RoundMatrix(p.shape.state.type, p.shape.value_dim, &want);
  const std::vector<double> got = UnpackState(p.shape, folded);
  EXPECT_TRUE(
      Near(std::vector<float>(got.begin(), got.end()), want, ToleranceOf(p.shape.state.type)));
  for (int head = 0; head < 4; ++head) EXPECT_EQ(HeldTokens(p.shape, folded, head), 0);
}

TEST_P(FoldStatesTest, RoundsTheRingIntoTheMatrix) {
  for (const StateFormat& format : kFormats) {
    for (const GatedKind& kind : AllGatedKinds()) {
      SCOPED_TRACE(testing::Message() << FormatName(format) << " " << kind.name);
      const GatedProblem p = MakeProblem(format, kind);
      const std::vector<float> held = RunReplay(device(), p, 0, 3, p.states).states;
      const std::vector<float> folded = RunFold(device(), p.shape, {3, 1}, held);
      for (const int32_t slot : {1, 3}) ExpectFolded(p, Slot(p, held, slot), Slot(p, folded, slot));
      for (const int32_t slot : {0, 2}) {
        EXPECT_TRUE(SameState(Slot(p, folded, slot), Slot(p, held, slot))) << slot;
      }
    }
  }
}

TEST_P(FoldStatesTest, LeavesEmptyRingsAsTheyAre) {
  for (const StateFormat& format : kFormats) {
    const GatedProblem p = MakeProblem(format, {});
    EXPECT_TRUE(SameState(RunFold(device(), p.shape, {0, 1, 2, 3}, p.states), p.states));
    const std::vector<float> held = RunReplay(device(), p, 0, 3, p.states).states;
    const std::vector<float> folded = RunFold(device(), p.shape, {1, 2, 3}, held);
    EXPECT_TRUE(SameState(RunFold(device(), p.shape, {1, 2, 3}, folded), folded))
        << FormatName(format);
  }
}

TEST_P(FoldStatesTest, StepsGoOnFromWhatItLeaves) {
  for (const StateFormat& format : kFormats) {
    for (const GatedKind& kind : AllGatedKinds()) {
      SCOPED_TRACE(testing::Message() << FormatName(format) << " " << kind.name);
      GatedProblem p = MakeProblem(format, kind);
      const std::vector<float> held = RunReplay(device(), p, 0, 3, p.states).states;
      p.states = RunFold(device(), p.shape, {1, 2, 3}, held);
      const Tolerance tolerance = ToleranceOf(format.type);
      ExpectAgreesWithReplay(p, RunReplay(device(), p, 0, 3, p.states), {tolerance, tolerance});
    }
  }
}

TEST_P(FoldStatesTest, TakesNoSlots) {
  const GatedProblem p = MakeProblem(kFormats[0], {});
  EXPECT_TRUE(SameState(RunFold(device(), p.shape, {}, p.states), p.states));
}

using FoldStatesDeathTest = FoldStatesTest;
INSTANTIATE_TEST_SUITE_P(Devices, FoldStatesDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(FoldStatesDeathTest, RefusesSlotsThatOverlap) {
  const GatedShape shape =
      WithState(ScaledShape(DType::kFloat32, 1, 1, 16, 16), {StateType::kFloat16, 4});
  const Output memory(device(), std::vector<float>(2 * shape.StateFloats()));
  const Input slots(device(), std::vector<int32_t>{0});
  const auto fold = [&](int64_t stride) {
    device().FoldStates({.shape = shape,
                         .count = 1,
                         .slots = slots.as<int32_t>(),
                         .states = memory.as<float>(),
                         .slot_stride = stride});
    device().Synchronize();
  };
  fold(shape.StateFloats());
  EXPECT_DEATH(fold(shape.StateFloats() - 4), kCheckFailed);
}

}  // namespace
}  // namespace sluice
