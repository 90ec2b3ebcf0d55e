#include "kernels/gated_step.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_problem.h"
#include "tests/kernels/gated_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

constexpr Tolerance kBFloat16Tolerance = {2.5e-3, 6e-3};
constexpr Tolerance kFloat32Tolerance = {3e-6, 3e-5};

std::vector<TokenRun> Tokens(int32_t rows) { return std::vector<TokenRun>(rows, {1, 0, 0}); }

class GatedStepTest : public DeviceTest {
 protected:
  // A row alone, in another slot, gives the bits that it gave among the others.
  void ExpectIsItsOwn(const GatedProblem& p, const GatedOutcome& all, size_t row) {
    const int64_t out_cols = int64_t{p.shape.heads} * p.shape.value_dim;
    const int64_t state_size = p.shape.StateSize();
    const int32_t slot = p.runs[row].slot;
    const GatedOutcome alone = RunGatedStep(device(), PartOf(p, row, 0, 1, p.State(slot)));
    EXPECT_TRUE(SameBits(alone.out, Part(all.out, row * out_cols, out_cols))) << row;
    EXPECT_TRUE(SameBits(alone.states, Part(all.states, slot * state_size, state_size))) << row;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, GatedStepTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(GatedRef, FollowsTheRecurrenceByHand) {
  // K = 1, V = 2, decays 1/2 and 1/4: the state goes (8, 16), (4 + 3*1, 8 + 3*2) = (7, 14),
  // (7/4 - 1*4, 14/4 - 1*8); out is 2 q S.
  const ref::GatedHead head = {.tokens = 2,
                               .key_dim = 1,
                               .value_dim = 2,
                               .scale = 2,
                               .q = {1, 10},
                               .k = {3, -1},
                               .v = {1, 2, 4, 8},
                               .log_decay = {std::log(0.5), std::log(0.25)},
                               .state = {8, 16},
                               .value_log_decay = {0, 0, 0, 0},
                               .input_scale = {1, 1},
                               .bonus = {}};
  for (const ref::GatedResult& result :
       {ref::GatedRecurrent(head), ref::GatedParallel(head), ref::GatedChunkwise(head, 1, 0)}) {
    const std::vector<double> out = {14, 28, -45, -90};
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(result.out[i], out[i], 1e-12);
    EXPECT_NEAR(result.state[0], -2.25, 1e-12);
    EXPECT_NEAR(result.state[1], -4.5, 1e-12);
  }
}

TEST(GatedRef, ReadsExclusivelyWithBothGatesByHand) {
  // The same with u = 5, c = 2 and 1, and values decayed by (1/2, 1) and (1, 1/2):
  // out = 2 * 1 * ((8, 16) + 5 * 6 * (1, 2)), then 2 * 10 * ((8, 20) + 5 * -1 * (4, 8));
  // the state goes (8/4 + 6, 16/2 + 12) = (8, 20), (8/4 - 4, 20/8 - 8).
  const ref::GatedHead head = {.tokens = 2,
                               .key_dim = 1,
                               .value_dim = 2,
                               .scale = 2,
                               .q = {1, 10},
                               .k = {3, -1},
                               .v = {1, 2, 4, 8},
                               .log_decay = {std::log(0.5), std::log(0.25)},
                               .state = {8, 16},
                               .value_log_decay = {std::log(0.5), 0, 0, std::log(0.5)},
                               .input_scale = {2, 1},
                               .exclusive = true,
                               .bonus = {5}};
  for (const ref::GatedResult& result :
       {ref::GatedRecurrent(head), ref::GatedParallel(head), ref::GatedChunkwise(head, 1, 0)}) {
    const std::vector<double> out = {76, 152, -240, -400};
    for (int i = 0; i < 4; ++i) EXPECT_NEAR(result.out[i], out[i], 1e-12);
    EXPECT_NEAR(result.state[0], -2, 1e-12);
    EXPECT_NEAR(result.state[1], -5.5, 1e-12);
  }
}

TEST_P(GatedStepTest, FollowsTheRecurrenceByHand) {
  // Only channel 0 of q, k and the state count; every decay is a half.
  GatedProblem p =
      MakeGatedProblem(ScaledShape(DType::kFloat32, 1, 1, 16, 16), Tokens(1), Gates::kZero, 1);
  p.shape.scale = 0.5F;
  std::vector<float> state(256);
  for (int i = 0; i < 16; ++i) {
    p.q[i] = i == 0 ? 3.0F : 0.0F;
    p.k[i] = i == 0 ? 2.0F : 0.0F;
    p.v[i] = static_cast<float>(i);
    p.log_decay[i] = std::log(0.5F);
    state[i] = 100;
  }
  std::copy(state.begin(), state.end(), p.states.begin() + 256);
  const GatedOutcome got = RunGatedStep(device(), p);
  std::vector<double> want_out(16);
  std::vector<double> want_state(256);
  for (int i = 0; i < 16; ++i) {
    want_state[i] = 50 + 2 * i;
    want_out[i] = 1.5 * want_state[i];
  }
  EXPECT_TRUE(EachNear(got.out, want_out, 1e-6, 0));
  EXPECT_TRUE(EachNear(Part(got.states, 256, 256), want_state, 1e-6, 0));
}

struct Row {
  int32_t rows;
  int32_t heads;
  int32_t kv_heads;
  int32_t key_dim;
  int32_t value_dim;
  Gates gates;
  bool wide;
  GatedKind kind;
};

constexpr GatedKind kExclusive = {
    .name = "exclusive", .read = ReadKind::kExclusive, .input_scale = true, .bonus = true};

std::vector<Row> Table() {
  constexpr Gates kTypical = Gates::kTypical;
  std::vector<Row> table = {
      {1, 1, 1, 16, 16, kTypical, false, {}},
      {2, 2, 1, 16, 48, kTypical, true, {}},
      {3, 3, 3, 64, 128, kTypical, true, {}},
      {5, 4, 2, 48, 96, Gates::kMixed, true, {}},
      {2, 4, 4, 256, 512, kTypical, false, {}},
      {1, 1, 1, 512, 528, kTypical, true, {}},
      {4, 16, 4, 32, 16, Gates::kStrong, false, {}},
      {3, 16, 16, 80, 112, kTypical, true, {}},
      {65, 2, 1, 64, 64, kTypical, true, {}},
      {2, 5, 1, 16, 512, Gates::kZero, false, {}},
      {2, 6, 3, 512, 16, kTypical, true, {}},
      {1, 256, 256, 16, 16, kTypical, false, {}},
      {7, 8, 2, 128, 256, Gates::kMixed, false, {}},
      {2, 12, 6, 96, 48, kTypical, true, {}},
      {200, 1, 1, 16, 32, kTypical, false, {}},
      // More query heads than one pass over a state serves.
      {2, 20, 2, 48, 80, kTypical, true, {}},
      {2, 20, 2, 48, 80, kTypical, true, kExclusive},
      {150, 20, 2, 32, 80, kTypical, true, {}},
      {150, 20, 2, 32, 80, kTypical, true, kExclusive},
      {2, 2, 2, 512, 528, kTypical, false, kExclusive},
  };
  for (const GatedKind& kind : AllGatedKinds()) {
    // More tiles of columns than a GPU takes at once.
    table.push_back({130, 8, 8, 16, 48, kTypical, true, kind});
    table.push_back({3, 4, 4, 80, 48, kTypical, true, kind});
    table.push_back({2, 4, 4, 16, 112, Gates::kUnbounded, false, kind});
    if (kind.shared_keys == 1) table.push_back({2, 8, 4, 32, 16, kTypical, true, kind});
  }
  return table;
}

TEST_P(GatedStepTest, AgreesWithTheOracle) {
  uint64_t seed = 800;
  for (const Row& row : Table()) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << " B=" << row.rows << " H=" << row.heads << "/"
                   << row.kv_heads << " K=" << row.key_dim << " V=" << row.value_dim << " "
                   << row.kind.name << ", gates " << static_cast<int>(row.gates));
      GatedProblem p =
          MakeGatedProblem(ScaledShape(dtype, row.heads, row.kv_heads, row.key_dim, row.value_dim),
                           Tokens(row.rows), row.gates, ++seed, row.kind);
      p.wide = row.wide;
      ExpectAgreesWithOracle(p, RunGatedStep(device(), p),
                             dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance);
    }
  }
}

TEST_P(GatedStepTest, MultipliesByTheScale) {
  for (const float scale : {1.0F, 0.3F}) {
    GatedProblem p = MakeGatedProblem(ScaledShape(DType::kFloat32, 2, 2, 32, 32), Tokens(3),
                                      Gates::kTypical, 830);
    p.shape.scale = scale;
    ExpectAgreesWithOracle(p, RunGatedStep(device(), p), kFloat32Tolerance);
  }
}

TEST_P(GatedStepTest, ARowDoesNotDependOnItsBatchNorOnItsSlot) {
  for (const GatedKind& kind : AllGatedKinds()) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << kind.name);
      const int32_t kv_heads = kind.shared_keys == 1 ? 2 : 4;
      GatedProblem p = MakeGatedProblem(ScaledShape(dtype, 4, kv_heads, 48, 80), Tokens(200),
                                        Gates::kTypical, 840, kind);
      p.wide = true;
      const GatedOutcome all = RunGatedStep(device(), p);
      for (const size_t row : {0, 99, 199}) ExpectIsItsOwn(p, all, row);
    }
  }
}

// So many that on a GPU several share a block; the last block has fewer, or all.
TEST_P(GatedStepTest, ManyHeadsOfSmallKAreAsTheyWereAlone) {
  struct Size {
    int32_t rows, heads, key_dim, value_dim;
  };
  uint64_t seed = 845;
  for (const Size& size : {Size{110, 4, 48, 16}, Size{50, 4, 112, 80}, Size{150, 3, 64, 48},
                           Size{10, 40, 128, 16}, Size{400, 1, 32, 16}}) {
    if (!is_cuda() && size.key_dim > 48) continue;
    for (const GatedKind& kind : AllGatedKinds()) {
      if (size.heads % kind.shared_keys != 0) continue;
      for (const DType dtype : ActivationTypes()) {
        SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " H=" << size.heads
                                        << " K=" << size.key_dim << " " << kind.name);
        const int32_t rows = is_cuda() ? size.rows : 3;
        GatedProblem p = MakeGatedProblem(
            ScaledShape(dtype, size.heads, size.heads, size.key_dim, size.value_dim), Tokens(rows),
            Gates::kTypical, ++seed, kind);
        p.wide = true;
        const GatedOutcome all = RunGatedStep(device(), p);
        ExpectAgreesWithOracle(p, all,
                               dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance);
        for (const int32_t row : {0, rows - 1}) ExpectIsItsOwn(p, all, row);
      }
    }
  }
}

TEST_P(GatedStepTest, ReachesSlotsBeyondTwoToThe32Floats) {
  GatedProblem p =
      MakeGatedProblem(ScaledShape(DType::kFloat32, 1, 1, 16, 16), Tokens(1), Gates::kTypical, 850);
  const std::vector<float> initial = p.State(1);
  const Output state(device(), initial);
  const Input q(device(), p.q);
  const Input k(device(), p.k);
  const Input v(device(), p.v);
  const Input gate(device(), p.log_decay);
  const Output out(device(), 64);
  constexpr int32_t kSlot = 1 << 22;
  constexpr int64_t kStride = 1032;
  const Input slot(device(), std::vector<int32_t>{kSlot});
  // Memory before the one slot that is used is never touched, so there need not be any.
  const auto states = reinterpret_cast<uintptr_t>(state.data()) - kSlot * kStride * 4;
  device().GatedStep({.shape = p.shape,
                      .rows = 1,
                      .slots = slot.as<int32_t>(),
                      .operands = {.q = q.data(),
                                   .k = k.data(),
                                   .v = v.data(),
                                   .q_stride = 16,
                                   .k_stride = 16,
                                   .v_stride = 16,
                                   .log_decay = gate.as<float>(),
                                   .states = reinterpret_cast<float*>(states),
                                   .slot_stride = kStride,
                                   .out = out.data()}});
  const GatedOutcome want = RunGatedStep(device(), p);
  EXPECT_TRUE(SameBits(out.Read<float>(), want.out));
  EXPECT_TRUE(SameBits(state.Read<float>(), Part(want.states, 256, 256)));
}

// Many rows of the sink at once, beside one that is somebody's.
TEST_P(GatedStepTest, RowsOfTheSinkHaveNoState) {
  constexpr int32_t kRows = 100;
  constexpr int32_t kSink = 1;
  for (const StateFormat& format :
       {StateFormat{}, StateFormat{StateType::kFloat16, 4}, StateFormat{StateType::kInt8, 4}}) {
    GatedShape shape = ScaledShape(DType::kFloat32, 2, 2, 64, 512);
    shape.state = format;
    Random random(870);
    const Input q(device(), random.Normals(kRows * 128));
    const Input k(device(), random.Normals(kRows * 128));
    const Input v(device(), random.Normals(kRows * 1024));
    const Input gate(device(), random.Uniforms(kRows * 128, -1, 0));
    std::vector<int32_t> slots(kRows, kSink);
    slots[9] = 0;
    const Input slot(device(), slots);
    const Output states(device(), std::vector<float>(2 * shape.StateFloats()));
    const Output out(device(), std::vector<float>(kRows * 1024, 1.0F));
    for (int step = 0; step < 6; ++step) {
      device().GatedStep({.shape = shape,
                          .rows = kRows,
                          .slots = slot.as<int32_t>(),
                          .operands = {.q = q.data(),
                                       .k = k.data(),
                                       .v = v.data(),
                                       .q_stride = 128,
                                       .k_stride = 128,
                                       .v_stride = 1024,
                                       .log_decay = gate.as<float>(),
                                       .states = states.as<float>(),
                                       .slot_stride = shape.StateFloats(),
                                       .out = out.data()},
                          .sink = kSink});
    }
    const std::vector<float> after = states.Read<float>();
    const auto size = static_cast<size_t>(shape.StateFloats());
    EXPECT_FALSE(SameBits(Part(after, 0, size), std::vector<float>(size)));
    EXPECT_TRUE(SameBits(Part(after, size, size), std::vector<float>(size)));
    const std::vector<float> got = out.Read<float>();
    EXPECT_TRUE(SameBits(Part(got, 0, 9 * 1024), std::vector<float>(9 * 1024)));
    EXPECT_FALSE(SameBits(Part(got, 9 * 1024, 1024), std::vector<float>(1024)));
    EXPECT_TRUE(SameBits(Part(got, 10 * 1024, (kRows - 10) * 1024),
                         std::vector<float>((kRows - 10) * 1024)));
  }
}

TEST_P(GatedStepTest, TakesNoRows) {
  const GatedProblem p =
      MakeGatedProblem(ScaledShape(DType::kFloat32, 1, 1, 16, 16), {}, Gates::kZero, 860);
  EXPECT_TRUE(SameBits(RunGatedStep(device(), p).states, p.states));
}

TEST(GatedStepThreads, GiveTheSameBits) {
  const GatedProblem p = MakeGatedProblem(ScaledShape(DType::kFloat32, 6, 3, 64, 112), Tokens(11),
                                          Gates::kTypical, 870);
  const GatedOutcome one = RunGatedStep(*CreateCpuDevice(1), p);
  const GatedOutcome two = RunGatedStep(*CreateCpuDevice(2), p);
  EXPECT_TRUE(SameBits(one.out, two.out));
  EXPECT_TRUE(SameBits(one.states, two.states));
}

using GatedStepDeathTest = GatedStepTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatedStepDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatedStepDeathTest, RefusesWhatBreaksALimit) {
  const Output memory(device(), std::vector<float>(1000));
  const Input slot(device(), std::vector<int32_t>{0});
  const auto step = [&](const GatedShape& shape, int64_t stride) {
    device().GatedStep({.shape = shape,
                        .rows = 1,
                        .slots = slot.as<int32_t>(),
                        .operands = PlainOperands(memory, stride)});
    device().Synchronize();
  };
  step(ScaledShape(DType::kFloat32, 2, 2, 16, 16), 32);
  EXPECT_DEATH(step(ScaledShape(DType::kFloat32, 3, 2, 16, 16), 48), kCheckFailed);
  EXPECT_DEATH(step(ScaledShape(DType::kFloat32, 2, 2, 16, 16), 24), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(step(ScaledShape(DType::kBFloat16, 2, 2, 16, 16), 32), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
