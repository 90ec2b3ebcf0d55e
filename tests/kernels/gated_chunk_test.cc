#include "kernels/gated_chunk.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_problem.h"
#include "tests/kernels/gated_ref.h"
#include "tests/kernels/guarded_memory.h"

namespace sluice {
namespace {

constexpr Tolerance kBFloat16Tolerance = {5e-3, 3e-2};
constexpr Tolerance kFloat32Tolerance = {1e-5, 1e-4};
// Sums of gates reach -1000 in a chunk, where float32 is spaced 6e-5, and that is the relative
// error of a weight exp(G_i - G_j).
constexpr Tolerance kStrongTolerance = {5e-5, 4e-4};

class GatedChunkTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, GatedChunkTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

double Distance(const std::vector<double>& a, const std::vector<double>& b) {
  double max = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i) max = std::fmax(max, std::abs(a[i] - b[i]));
  return max;
}

TEST(GatedRef, ThreeFormsAreOneFunction) {
  for (const GatedKind& kind : AllGatedKinds()) {
    for (const Gates gates :
         {Gates::kTypical, Gates::kZero, Gates::kStrong, Gates::kMixed, Gates::kUnbounded}) {
      SCOPED_TRACE(testing::Message() << kind.name << ", gates " << static_cast<int>(gates));
      const GatedProblem p = MakeGatedProblem(ScaledShape(DType::kFloat32, 4, 4, 16, 16),
                                              {{40, 5, 0}}, gates, 900, kind);
      const ref::GatedHead head = HeadOf(p, 0, 1);
      const ref::GatedResult recurrent = ref::GatedRecurrent(head);
      for (const ref::GatedResult& other :
           {ref::GatedParallel(head), ref::GatedChunkwise(head, 16, 5)}) {
        EXPECT_LT(Distance(other.out, recurrent.out), 1e-11);
        EXPECT_LT(Distance(other.state, recurrent.state), 1e-11);
      }
    }
  }
}

TEST(PackedRows, CutsChunksOnTheGridOfPositions) {
  const PackedRows packed = PackRuns({{100, 60, 3}, {1, 64, 0}}, 7);
  ASSERT_EQ(packed.chunks.size(), 4U);
  EXPECT_EQ(ChunkCount(60, 100), 3);
  EXPECT_EQ(ChunkCount(64, 1), 1);
  EXPECT_EQ(packed.rows, 108);
  const int32_t rows[] = {7, 11, 75, 107};
  const int32_t lengths[] = {4, 64, 32, 1};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(packed.chunks[i].row, rows[i]);
    EXPECT_EQ(packed.chunks[i].length, lengths[i]);
    EXPECT_EQ(packed.chunks[i].segment, i == 3 ? 1 : 0);
  }
  EXPECT_EQ(packed.segments[1].first_chunk, 3);
}

TEST_P(GatedChunkTest, FollowsTheRecurrenceByHand) {
  // Channel 0 alone counts; two tokens, decays 1/2 and 1/4, as GatedRef has it.
  GatedProblem p =
      MakeGatedProblem(ScaledShape(DType::kFloat32, 1, 1, 16, 16), {{2, 0, 0}}, Gates::kZero, 1);
  p.shape.scale = 2;
  p.q.assign(32, 0);
  p.k.assign(32, 0);
  p.v.assign(32, 0);
  p.states.assign(512, 0);
  p.q[0] = 1;
  p.q[16] = 10;
  p.k[0] = 3;
  p.k[16] = -1;
  p.v[0] = 1;
  p.v[1] = 2;
  p.v[16] = 4;
  p.v[17] = 8;
  p.log_decay[0] = std::log(0.5F);
  p.log_decay[16] = std::log(0.25F);
  p.states[256] = 8;
  p.states[257] = 16;
  const GatedOutcome got = RunGatedChunk(device(), p);
  std::vector<double> out(32);
  out[0] = 14;
  out[1] = 28;
  out[16] = -45;
  out[17] = -90;
  std::vector<double> state(256);
  state[0] = -2.25;
  state[1] = -4.5;
  EXPECT_TRUE(EachNear(got.out, out, 1e-6, 1e-6));
  EXPECT_TRUE(EachNear(Part(got.states, 256, 256), state, 1e-6, 1e-6));
}

struct Row {
  int32_t heads;
  int32_t kv_heads;
  int32_t key_dim;
  int32_t value_dim;
  std::vector<TokenRun> runs;
  Gates gates;
  bool wide;
  int32_t first_row;
  Tolerance float32 = kFloat32Tolerance;
  GatedKind kind = {};
};

constexpr GatedKind kExclusive = {
    .name = "exclusive", .read = ReadKind::kExclusive, .input_scale = true, .bonus = true};
constexpr GatedKind kValueGate = {.name = "value gate", .value_gate = true};
constexpr GatedKind kExclusiveValueGate = {.name = "exclusive value gate",
                                           .value_gate = true,
                                           .read = ReadKind::kExclusive,
                                           .input_scale = true,
                                           .bonus = true};
constexpr GatedKind kNoGate = {.name = "none", .gate = GateKind::kNone};
constexpr GatedKind kConstant = {.name = "constant", .gate = GateKind::kConstant};
constexpr GatedKind kScalar = {.name = "scalar", .gate = GateKind::kScalar, .input_scale = true};
constexpr GatedKind kExclusiveScalar = {.name = "exclusive scalar",
                                        .gate = GateKind::kScalar,
                                        .read = ReadKind::kExclusive,
                                        .input_scale = true,
                                        .bonus = true};
// One query and key for 20 heads.
constexpr GatedKind kShared20 = {
    .name = "20 share keys", .gate = GateKind::kScalar, .shared_keys = 20, .input_scale = true};
constexpr GatedKind kExclusiveShared20 = {.name = "20 share keys, exclusive",
                                          .gate = GateKind::kScalar,
                                          .read = ReadKind::kExclusive,
                                          .shared_keys = 20,
                                          .bonus = true};

// Heads of their own, as models have them, over chunks enough to be cut into parts.
std::vector<Row> LongTable() {
  constexpr Gates kTypical = Gates::kTypical;
  return {
      {4, 4, 256, 512, {{520, 40, 0}, {64, 0, 0}}, kTypical, true, 1},
      {2, 2, 256, 144, {{700, 0, 0}}, kTypical, false, 0, kFloat32Tolerance, kScalar},
      {2, 2, 192, 64, {{330, 1, 0}}, kTypical, true, 0},
      {3, 3, 128, 128, {{600, 64, 0}, {300, 3, 0}, {2, 63, 0}}, kTypical, true, 2},
      {2, 2, 128, 64, {{600, 10, 0}}, kTypical, false, 0, kFloat32Tolerance, kConstant},
      {2, 2, 64, 64, {{640, 0, 0}}, kTypical, false, 0, kFloat32Tolerance, kExclusive},
      {1, 1, 64, 64, {{2700, 5, 0}}, kTypical, true, 0},
      // Where nothing decays, what the first part gives comes to the last one.
      {1, 1, 256, 128, {{1500, 20, 0}}, Gates::kZero, true, 0},
      {1, 1, 128, 256, {{1000, 0, 0}, {90, 3, 0}}, Gates::kZero, false, 1},
      {2, 2, 192, 80, {{900, 63, 0}}, Gates::kMixed, true, 0, kStrongTolerance},
  };
}

std::vector<Row> Table() {
  constexpr Gates kTypical = Gates::kTypical;
  std::vector<Row> table = {
      // Lengths.
      {1, 1, 16, 16, {{1, 0, 0}}, kTypical, false, 0},
      {2, 1, 16, 48, {{63, 0, 0}}, kTypical, true, 0},
      {3, 3, 64, 128, {{64, 0, 0}}, kTypical, true, 0},
      {4, 2, 48, 96, {{65, 0, 0}}, kTypical, true, 0},
      {1, 1, 32, 16, {{1000, 0, 0}}, kTypical, true, 0},
      {2, 2, 64, 64, {{1000, 37, 0}}, kTypical, false, 0},
      // Heads and dimensions.
      {1, 1, 512, 512, {{65, 0, 0}}, kTypical, true, 0},
      {2, 1, 256, 512, {{70, 10, 0}}, kTypical, true, 0},
      {2, 1, 128, 256, {{130, 0, 0}}, kTypical, false, 0},
      {3, 1, 16, 512, {{64, 63, 0}}, kTypical, true, 0},
      {2, 2, 512, 16, {{100, 0, 0}}, kTypical, true, 0},
      {16, 16, 80, 112, {{17, 0, 0}}, kTypical, true, 0},
      {16, 4, 16, 32, {{65, 0, 0}, {1, 3, 0}, {64, 64, 0}}, kTypical, false, 0},
      {256, 128, 16, 16, {{3, 62, 0}}, kTypical, true, 0},
      {5, 5, 96, 48, {{66, 0, 0}}, kTypical, false, 0},
      // Packed, behind rows of something else.
      {2,
       1,
       48,
       64,
       {{5, 0, 0}, {64, 64, 0}, {100, 100, 0}, {1, 1000, 0}, {63, 1, 0}, {129, 1000003, 0}},
       kTypical,
       true,
       3},
      {1, 1, 16, 16, std::vector<TokenRun>(40, {7, 60, 0}), kTypical, false, 65},
      // Gates.
      {2, 1, 32, 64, {{150, 0, 0}}, Gates::kZero, true, 0},
      {2, 1, 32, 64, {{150, 20, 0}}, Gates::kStrong, true, 0, kStrongTolerance},
      {2, 2, 64, 48, {{200, 0, 0}, {64, 0, 0}}, Gates::kMixed, true, 0, kStrongTolerance},
      {1, 1, 128, 128, {{129, 1, 0}}, Gates::kMixed, false, 2, kStrongTolerance},
      {1, 1, 144, 80, {{129, 1, 0}}, Gates::kUnbounded, true, 2},
      {1, 1, 144, 80, {{129, 1, 0}}, Gates::kUnbounded, true, 2, kFloat32Tolerance, kExclusive},
      // Large heads, and grouped queries, of other kinds.
      {1, 1, 512, 528, {{66, 0, 0}}, kTypical, true, 0, kFloat32Tolerance, kExclusive},
      {1, 1, 512, 528, {{66, 0, 0}}, kTypical, true, 0, kFloat32Tolerance, kValueGate},
      {6, 2, 80, 48, {{70, 60, 0}}, kTypical, false, 1, kFloat32Tolerance, kExclusive},
      {6, 2, 80, 48, {{70, 60, 0}}, kTypical, false, 1, kFloat32Tolerance, kValueGate},
      // Gated values.
      {1, 1, 48, 80, {{300, 30, 0}}, kTypical, true, 2, kFloat32Tolerance, kValueGate},
      {2, 2, 80, 144, {{200, 1, 0}}, Gates::kUnbounded, true, 0, kFloat32Tolerance, kValueGate},
      {1, 1, 64, 64, {{200, 0, 0}}, Gates::kZero, false, 0, kFloat32Tolerance, kValueGate},
      {2, 1, 64, 48, {{150, 9, 0}}, Gates::kStrong, true, 0, kStrongTolerance, kValueGate},
      {2, 1, 64, 80, {{150, 9, 0}}, Gates::kMixed, true, 0, kStrongTolerance, kExclusiveValueGate},
      {4,
       2,
       32,
       128,
       {{150, 9, 0}},
       Gates::kUnbounded,
       false,
       1,
       kFloat32Tolerance,
       kExclusiveValueGate},
      // A decay of a whole row.
      {2, 2, 128, 144, {{300, 30, 0}}, kTypical, true, 2, kFloat32Tolerance, kNoGate},
      {1, 1, 512, 144, {{130, 0, 0}}, kTypical, true, 0, kFloat32Tolerance, kConstant},
      {1, 1, 512, 48, {{130, 0, 0}}, kTypical, true, 0, kFloat32Tolerance, kScalar},
      {1, 1, 512, 528, {{70, 3, 0}}, kTypical, true, 0, kFloat32Tolerance, kScalar},
      {3, 1, 256, 64, {{130, 63, 0}}, kTypical, true, 0, kFloat32Tolerance, kConstant},
      {6, 2, 80, 48, {{200, 60, 0}}, Gates::kUnbounded, false, 1, kFloat32Tolerance, kScalar},
      {2, 2, 64, 112, {{300, 5, 0}}, Gates::kMixed, true, 0, kStrongTolerance, kScalar},
      {2, 2, 64, 112, {{200, 5, 0}}, Gates::kStrong, true, 0, kStrongTolerance, kScalar},
      {6,
       2,
       80,
       48,
       {{200, 60, 0}},
       Gates::kUnbounded,
       true,
       1,
       kFloat32Tolerance,
       kExclusiveScalar},
      {20, 20, 128, 64, {{140, 60, 0}, {3, 0, 0}}, kTypical, true, 1, kFloat32Tolerance, kShared20},
      {40, 40, 48, 16, {{140, 7, 0}}, Gates::kUnbounded, false, 0, kFloat32Tolerance, kShared20},
      {40, 40, 16, 32, {{80, 7, 0}}, Gates::kMixed, false, 0, kStrongTolerance, kExclusiveShared20},
  };
  for (const Row& row : LongTable()) table.push_back(row);
  for (const GatedKind& kind : AllGatedKinds()) {
    const std::vector<TokenRun> runs = {{90, 50, 0}, {1, 0, 0}, {9, 0, 0}};
    table.push_back({4, 4, 48, 64, runs, kTypical, true, 3, kFloat32Tolerance, kind});
    table.push_back({4, 4, 80, 16, runs, Gates::kUnbounded, false, 0, kFloat32Tolerance, kind});
  }
  return table;
}

TEST_P(GatedChunkTest, AgreesWithTheOracle) {
  uint64_t seed = 1000;
  for (const Row& row : Table()) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << " H=" << row.heads << "/" << row.kv_heads
                   << " K=" << row.key_dim << " V=" << row.value_dim << " first length "
                   << row.runs[0].length << " " << row.kind.name << ", gates "
                   << static_cast<int>(row.gates));
      GatedProblem p =
          MakeGatedProblem(ScaledShape(dtype, row.heads, row.kv_heads, row.key_dim, row.value_dim),
                           row.runs, row.gates, ++seed, row.kind);
      p.wide = row.wide;
      p.first_row = row.first_row;
      ExpectAgreesWithOracle(p, RunGatedChunk(device(), p),
                             dtype == DType::kFloat32 ? row.float32 : kBFloat16Tolerance);
    }
  }
}

// A GPU's ways of computing it, of which the fixture's device has but one.
class GatedChunkWaysTest : public DeviceTest {};
std::vector<DeviceKind> GpusUnderTest() {
  std::vector<DeviceKind> kinds = DevicesUnderTest();
  kinds.erase(std::remove(kinds.begin(), kinds.end(), DeviceKind::kCpu), kinds.end());
  return kinds;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GatedChunkWaysTest);
INSTANTIATE_TEST_SUITE_P(Gpus, GatedChunkWaysTest, testing::ValuesIn(GpusUnderTest()), DeviceName);

TEST_P(GatedChunkWaysTest, AgreeWithTheOracle) {
  const CudaOptions ways[] = {{.portable = true}, {.batch_invariant = false}};
  for (const CudaOptions& options : ways) {
    std::string error;
    const std::unique_ptr<Device> other = CreateCudaDevice(options, &error);
    ASSERT_NE(other, nullptr) << error;
    uint64_t seed = 1000;
    for (const Row& row : Table()) {
      SCOPED_TRACE(testing::Message()
                   << (options.portable ? "portable" : "in parts") << " H=" << row.heads << "/"
                   << row.kv_heads << " K=" << row.key_dim << " V=" << row.value_dim
                   << " first length " << row.runs[0].length << " " << row.kind.name << ", gates "
                   << static_cast<int>(row.gates));
      GatedProblem p = MakeGatedProblem(
          ScaledShape(DType::kBFloat16, row.heads, row.kv_heads, row.key_dim, row.value_dim),
          row.runs, row.gates, ++seed, row.kind);
      p.wide = row.wide;
      p.first_row = row.first_row;
      ExpectAgreesWithOracle(p, RunGatedChunk(*other, p), kBFloat16Tolerance);
    }
  }
}

TEST_P(GatedChunkTest, MultipliesByTheScale) {
  for (const float scale : {1.0F, 0.3F}) {
    GatedProblem p = MakeGatedProblem(ScaledShape(DType::kFloat32, 2, 2, 32, 32), {{70, 0, 0}},
                                      Gates::kTypical, 1050);
    p.shape.scale = scale;
    ExpectAgreesWithOracle(p, RunGatedChunk(device(), p), kFloat32Tolerance);
  }
}

TEST_P(GatedChunkTest, IsTheRecurrentFormInTheOracleTolerance) {
  for (const DType dtype : ActivationTypes()) {
    const GatedProblem p =
        MakeGatedProblem(ScaledShape(dtype, 4, 2, 32, 48), {{70, 30, 0}}, Gates::kTypical, 1060);
    GatedOutcome steps = {{}, p.State(1)};
    for (int64_t t = 0; t < 70; ++t) {
      const GatedOutcome step = RunGatedStep(device(), PartOf(p, 0, t, 1, steps.states));
      steps.out.insert(steps.out.end(), step.out.begin(), step.out.end());
      steps.states = step.states;
    }
    const GatedOutcome chunk = RunGatedChunk(device(), p);
    const Tolerance tolerance = dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance;
    EXPECT_TRUE(Near(chunk.out, {steps.out.begin(), steps.out.end()}, tolerance));
    EXPECT_TRUE(Near(Part(chunk.states, p.shape.StateSize(), p.shape.StateSize()),
                     {steps.states.begin(), steps.states.end()}, tolerance));
  }
}

TEST_P(GatedChunkTest, IsTheParallelFormInTheOracleTolerance) {
  for (const DType dtype : ActivationTypes()) {
    const GatedProblem p =
        MakeGatedProblem(ScaledShape(dtype, 1, 1, 16, 32), {{100, 0, 0}}, Gates::kTypical, 1070);
    const ref::GatedResult want = ref::GatedParallel(HeadOf(p, 0, 0));
    EXPECT_TRUE(Near(RunGatedChunk(device(), p).out, want.out,
                     dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
  }
}

TEST_P(GatedChunkTest, TakesNoSegments) {
  const GatedProblem p =
      MakeGatedProblem(ScaledShape(DType::kFloat32, 1, 1, 16, 16), {}, Gates::kZero, 1100);
  EXPECT_TRUE(SameBits(RunGatedChunk(device(), p).states, p.states));
}

TEST(GatedChunkThreads, GiveTheSameBits) {
  for (const GatedKind& kind : {GatedKind{}, kExclusive, kValueGate}) {
    SCOPED_TRACE(kind.name);
    const GatedProblem p = MakeGatedProblem(ScaledShape(DType::kFloat32, 3, 3, 64, 112),
                                            {{70, 9, 0}, {130, 0, 0}}, Gates::kTypical, 1110, kind);
    const GatedOutcome one = RunGatedChunk(*CreateCpuDevice(1), p);
    const GatedOutcome four = RunGatedChunk(*CreateCpuDevice(4), p);
    EXPECT_TRUE(SameBits(one.out, four.out));
    EXPECT_TRUE(SameBits(one.states, four.states));
  }
}

using GatedChunkDeathTest = GatedChunkTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatedChunkDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatedChunkDeathTest, RefusesWhatBreaksALimit) {
  const PackedRows packed = PackRuns({{1, 0, 0}}, 0);
  const Input segments(device(), packed.segments);
  const Input chunks(device(), packed.chunks);
  const Output workspace(device(), int64_t{1} << 20);
  const Output memory(device(), std::vector<float>(1000));
  const auto chunk = [&](const GatedShape& shape, int64_t stride) {
    device().GatedChunk({.shape = shape,
                         .segment_count = 1,
                         .segments = segments.as<Segment>(),
                         .chunk_count = 1,
                         .chunks = chunks.as<ChunkSpan>(),
                         .operands = PlainOperands(memory, stride),
                         .workspace = workspace.data()});
    device().Synchronize();
  };
  chunk(ScaledShape(DType::kFloat32, 2, 2, 16, 16), 32);
  EXPECT_DEATH(chunk(ScaledShape(DType::kFloat32, 3, 2, 16, 16), 48), kCheckFailed);
  EXPECT_DEATH(chunk(ScaledShape(DType::kFloat32, 2, 2, 16, 16), 24), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(chunk(ScaledShape(DType::kBFloat16, 2, 2, 16, 16), 32), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
