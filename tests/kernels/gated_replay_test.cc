// States of every format, token by token and before and after chunks.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
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

constexpr StateType kTypes[] = {StateType::kFloat32, StateType::kFloat16, StateType::kInt8};
constexpr int32_t kRings[] = {0, 1, 4, 16, 32};

// A number that float32 arithmetic leaves on the other side of a rounding boundary is off by a step
// of the format; far fewer are than a rounding at the wrong token would change.
ReplayTolerance ToleranceOf(const GatedShape& shape) {
  Tolerance state = {2e-5, 2e-4};
  if (shape.state.type == StateType::kFloat16) state = {1e-4, 2e-3};
  if (shape.state.type == StateType::kInt8) state = {1.5e-3, 5e-2};
  return {shape.dtype == DType::kFloat32 ? state : Tolerance{3e-3, 2e-2}, state};
}

// Of what the formats leave of a number: 24, 11 and about 7 bits of it.
Tolerance LossOf(StateType type) {
  if (type == StateType::kFloat32) return {2e-5, 2e-4};
  return type == StateType::kFloat16 ? Tolerance{2e-3, 1e-2} : Tolerance{8e-2, 4e-1};
}

std::vector<StateFormat> FormatsOf(StateType type) {
  std::vector<StateFormat> formats;
  for (const int32_t ring : kRings) formats.push_back({type, ring});
  return formats;
}
std::vector<StateFormat> AllFormats() {
  std::vector<StateFormat> formats;
  for (const StateType type : kTypes) {
    for (const StateFormat& format : FormatsOf(type)) formats.push_back(format);
  }
  return formats;
}

// `count` runs of as many tokens.
std::vector<TokenRun> Runs(int32_t count, int32_t tokens) {
  return std::vector<TokenRun>(count, {tokens, 0, 0});
}

class GatedReplayTest : public DeviceTest {
 protected:
  GatedOutcome Replay(const GatedProblem& p) {
    return RunReplay(device(), p, 0, p.runs[0].length, p.states);
  }

  // A run alone, in another slot, gives the bits that it gave among the others.
  void ExpectIsItsOwn(const GatedProblem& p, const GatedOutcome& all, size_t run) {
    const TokenRun& tokens = p.runs[run];
    const int64_t out_size = int64_t{tokens.length} * p.shape.heads * p.shape.value_dim;
    const int64_t floats = p.shape.StateFloats();
    const GatedOutcome alone = Replay(PartOf(p, run, 0, tokens.length, p.State(tokens.slot)));
    EXPECT_TRUE(SameBits(alone.out, Part(all.out, run * out_size, out_size))) << run;
    EXPECT_TRUE(SameState(alone.states, Part(all.states, tokens.slot * floats, floats))) << run;
  }

  // The longest ones, a type of state each, so that a race detector can take them in turns.
  void AgreeAtEveryPlace(StateType type, uint64_t seed);
  void FoldLongRings(StateType type, uint64_t seed);
  void ShareHeads(StateType type);
};
INSTANTIATE_TEST_SUITE_P(Devices, GatedReplayTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(ReplayRef, IsTheRecurrenceWhereNothingIsRounded) {
  for (const Gates gates : {Gates::kTypical, Gates::kUnbounded}) {
    const GatedProblem p =
        MakeGatedProblem(ScaledShape(DType::kFloat32, 1, 1, 16, 16), Runs(1, 20), gates, 1000);
    const ref::GatedHead head = HeadOf(p, 0, 0);
    const ref::ReplayResult replay = ref::GatedReplay(head, {StateType::kFloat32, 32});
    const ref::GatedResult exact = ref::GatedRecurrent(head);
    for (size_t i = 0; i < exact.out.size(); ++i) EXPECT_NEAR(replay.out[i], exact.out[i], 1e-5);
  }
}

TEST(ReplayRef, RoundsByHand) {
  EXPECT_EQ(ref::RoundToFloat16(1 + 0x1p-11), 1);  // ties to even
  EXPECT_EQ(ref::RoundToFloat16(1 + 0x3p-11), 1 + 0x1p-9);
  EXPECT_EQ(ref::RoundToFloat16(-0x1.8p-24), -0x1p-23);
  EXPECT_EQ(ref::RoundToFloat16(65519), 65504);
  EXPECT_EQ(ref::RoundToFloat16(-1e30), -65504);
  std::vector<double> row = {127, 63.4, -0.6, 0};
  ref::RoundRow(StateType::kInt8, row.data(), 4);
  EXPECT_EQ(row, (std::vector<double>{127, 63, -1, 0}));
}

void GatedReplayTest::AgreeAtEveryPlace(StateType type, uint64_t seed) {
  for (const StateFormat& format : FormatsOf(type)) {
    if (format.IsPlain()) continue;
    for (const GatedKind& kind : AllGatedKinds()) {
      for (const Gates gates : {Gates::kTypical, Gates::kMixed}) {
        SCOPED_TRACE(testing::Message() << FormatName(format) << " " << kind.name << ", gates "
                                        << static_cast<int>(gates));
        const int32_t tokens = 2 * std::min(format.ring, 16) + 3;
        const int32_t heads = kind.shared_keys == 1 ? 8 : 4;
        GatedProblem p =
            MakeGatedProblem(WithState(ScaledShape(DType::kFloat32, heads, 4, 16, 48), format),
                             Runs(2, tokens), gates, ++seed, kind);
        p.wide = true;
        const GatedOutcome got = Replay(p);
        ExpectAgreesWithReplay(p, got, ToleranceOf(p.shape));
        ExpectIsNearRecurrence(p, got, LossOf(format.type));
      }
    }
  }
}
TEST_P(GatedReplayTest, AgreesAtEveryPlaceOfARingOfFloat32) {
  AgreeAtEveryPlace(StateType::kFloat32, 1100);
}
TEST_P(GatedReplayTest, AgreesAtEveryPlaceOfARingOfFloat16) {
  AgreeAtEveryPlace(StateType::kFloat16, 2100);
}
TEST_P(GatedReplayTest, AgreesAtEveryPlaceOfARingOfInt8) {
  AgreeAtEveryPlace(StateType::kInt8, 3100);
}

TEST_P(GatedReplayTest, FoldsBeforeADecayCannotBeGrownBack) {
  uint64_t seed = 1200;
  for (const StateFormat& format : AllFormats()) {
    if (format.IsPlain()) continue;
    for (const GatedKind& kind : AllGatedKinds()) {
      for (const Gates gates : {Gates::kStrong, Gates::kUnbounded}) {
        SCOPED_TRACE(testing::Message() << FormatName(format) << " " << kind.name << ", gates "
                                        << static_cast<int>(gates));
        const GatedProblem p =
            MakeGatedProblem(WithState(ScaledShape(DType::kFloat32, 4, 4, 16, 80), format),
                             Runs(2, 12), gates, ++seed, kind);
        const GatedOutcome got = Replay(p);
        ExpectAgreesWithReplay(p, got, ToleranceOf(p.shape));
      }
    }
  }
}

struct Sizes {
  int32_t heads;
  int32_t kv_heads;
  int32_t key_dim;
  int32_t value_dim;
};

TEST_P(GatedReplayTest, AgreesWithTheOracleAtEverySize) {
  uint64_t seed = 1300;
  const Sizes table[] = {{1, 1, 16, 16},   {2, 2, 80, 208},  {4, 4, 256, 512}, {1, 1, 512, 528},
                         {20, 2, 48, 112}, {2, 2, 272, 528}, {5, 1, 16, 16},   {64, 64, 128, 64}};
  constexpr int64_t kLarge = 200'000;  // numbers: of more a CPU has one format alone
  for (const Sizes& size : table) {
    const int64_t numbers = int64_t{size.kv_heads} * size.key_dim * size.value_dim;
    for (const StateFormat& format : AllFormats()) {
      const bool hardest = format.type == StateType::kInt8 && format.ring == 4;
      if (!is_cuda() && numbers > kLarge && !hardest) continue;
      if (format.IsPlain() || (format.ring != 0 && format.ring != 4)) continue;
      for (const DType dtype : ActivationTypes()) {
        SCOPED_TRACE(testing::Message()
                     << FormatName(format) << " " << DTypeName(dtype) << " H=" << size.heads << "/"
                     << size.kv_heads << " K=" << size.key_dim << " V=" << size.value_dim);
        const GatedShape shape =
            ScaledShape(dtype, size.heads, size.kv_heads, size.key_dim, size.value_dim);
        const GatedProblem p =
            MakeGatedProblem(WithState(shape, format), Runs(1, 6), Gates::kTypical, ++seed);
        ExpectAgreesWithReplay(p, Replay(p), ToleranceOf(p.shape));
      }
    }
  }
}

// Rings that do not fit beside the rest of a head into what every GPU has, and those that do; rows
// that come to threads in an odd number of batches. With or without the room, the bits are the
// same.
void GatedReplayTest::FoldLongRings(StateType type, uint64_t seed) {
  std::unique_ptr<Device> portable;
  if (is_cuda()) {
    std::string error;
    portable = CreateCudaDevice({.portable = true}, &error);
    ASSERT_NE(portable, nullptr) << error;
  }
  const GatedKind two_gates = {.name = "two gates", .value_gate = true};
  for (const Sizes& size : {Sizes{2, 2, 256, 512}, Sizes{5, 1, 512, 528}, Sizes{2, 2, 48, 208}}) {
    for (const int32_t ring : {16, 32}) {
      if (!is_cuda() && (ring == 32 || size.key_dim != 48)) continue;
      SCOPED_TRACE(testing::Message()
                   << FormatName({type, ring}) << " H=" << size.heads << "/" << size.kv_heads
                   << " K=" << size.key_dim << " V=" << size.value_dim);
      const GatedShape shape =
          ScaledShape(DType::kFloat32, size.heads, size.kv_heads, size.key_dim, size.value_dim);
      const GatedProblem p = MakeGatedProblem(WithState(shape, {type, ring}), Runs(1, ring + 2),
                                              Gates::kMixed, ++seed, two_gates);
      const GatedOutcome got = Replay(p);
      ExpectAgreesWithReplay(p, got, ToleranceOf(p.shape));
      if (!is_cuda()) continue;
      const GatedOutcome same = RunReplay(*portable, p, 0, ring + 2, p.states);
      EXPECT_TRUE(SameBits(same.out, got.out));
      EXPECT_TRUE(SameState(same.states, got.states));
    }
  }
}
TEST_P(GatedReplayTest, FoldsLongRingsOfLargeHeadsInFloat32) {
  FoldLongRings(StateType::kFloat32, 1350);
}
TEST_P(GatedReplayTest, FoldsLongRingsOfLargeHeadsInFloat16) {
  FoldLongRings(StateType::kFloat16, 2350);
}
TEST_P(GatedReplayTest, FoldsLongRingsOfLargeHeadsInInt8) { FoldLongRings(StateType::kInt8, 3350); }

TEST_P(GatedReplayTest, ARowDoesNotDependOnItsBatchNorOnItsSlot) {
  for (const StateFormat& format : AllFormats()) {
    if (format.IsPlain()) continue;
    for (const GatedKind& kind : AllGatedKinds()) {
      for (const DType dtype : ActivationTypes()) {
        SCOPED_TRACE(testing::Message()
                     << FormatName(format) << " " << DTypeName(dtype) << " " << kind.name);
        const GatedProblem p = MakeGatedProblem(WithState(ScaledShape(dtype, 4, 4, 32, 80), format),
                                                Runs(9, 5), Gates::kTypical, 1400, kind);
        const GatedOutcome all = Replay(p);
        for (const size_t run : {0, 8}) ExpectIsItsOwn(p, all, run);
      }
    }
  }
}

// As many heads as fill a GPU several times over have a block each, and few are shared by several.
void GatedReplayTest::ShareHeads(StateType type) {
  constexpr float kSmall = 1e-6F;  // states, beside weights of 1
  for (const GatedKind& kind : AllGatedKinds()) {
    if (!is_cuda() && kind.gate != GateKind::kVector) continue;
    // On a GPU of 96 to 191 multiprocessors heads of V=512 have four blocks, two and one.
    for (const int32_t rows : is_cuda() ? std::vector<int32_t>{9, 24, 80} : std::vector{9, 10}) {
      SCOPED_TRACE(testing::Message()
                   << static_cast<int>(type) << " " << kind.name << " " << rows << " rows");
      const int32_t value_dim = is_cuda() && std::string(kind.name) == "vector" ? 512 : 64;
      const GatedShape shape = ScaledShape(DType::kFloat32, 4, 4, 256, value_dim);
      GatedProblem p =
          MakeGatedProblem(WithState(shape, {type, 3}), Runs(rows, 4), Gates::kTypical, 1450, kind);
      p.states.assign(p.states.size(), 0);
      for (float& v : p.v) v *= kSmall;
      const GatedOutcome all = Replay(p);
      for (const size_t run : {0, rows - 1}) ExpectIsItsOwn(p, all, run);
    }
  }
}
TEST_P(GatedReplayTest, ARowDoesNotDependOnHowManyShareAHeadOfFloat32) {
  ShareHeads(StateType::kFloat32);
}
TEST_P(GatedReplayTest, ARowDoesNotDependOnHowManyShareAHeadOfFloat16) {
  ShareHeads(StateType::kFloat16);
}
TEST_P(GatedReplayTest, ARowDoesNotDependOnHowManyShareAHeadOfInt8) {
  ShareHeads(StateType::kInt8);
}

TEST(GatedReplayThreads, GiveTheSameBits) {
  for (const StateFormat& format : AllFormats()) {
    const GatedProblem p =
        MakeGatedProblem(WithState(ScaledShape(DType::kFloat32, 6, 3, 64, 112), format),
                         Runs(11, 6), Gates::kTypical, 1500);
    const GatedOutcome one = RunReplay(*CreateCpuDevice(1), p, 0, 6, p.states);
    const GatedOutcome two = RunReplay(*CreateCpuDevice(2), p, 0, 6, p.states);
    EXPECT_TRUE(SameBits(one.out, two.out)) << FormatName(format);
    EXPECT_TRUE(SameState(one.states, two.states)) << FormatName(format);
  }
}

// One token of one head of 16 x 16 that forgets nothing: the state after it is k^T v alone.
GatedProblem OneProduct(const StateFormat& format, float key, const std::vector<float>& value) {
  GatedProblem p =
      MakeGatedProblem(WithState(ScaledShape(DType::kFloat32, 1, 1, 16, 16), format), Runs(1, 1),
                       Gates::kZero, 1600, {.name = "none", .gate = GateKind::kNone});
  p.states.assign(p.states.size(), 0);
  p.k.assign(16, 0);
  p.k[1] = key;
  p.v = value;
  return p;
}

std::vector<double> RowOf(const GatedProblem& p, const GatedOutcome& got, int64_t row) {
  const int64_t floats = p.shape.StateFloats();
  return Part(UnpackState(p.shape, Part(got.states, floats, floats)), row * 16, 16);
}

TEST_P(GatedReplayTest, RoundsFloat16ToTheNearestAndNeverToInfinity) {
  const std::vector<float> value = {
      1,      1 + 0x1p-11F, 1 + 0x3p-11F, 1 + 0x1.008p-11F, 65503,     65519,        65520, 1e6F,
      -3e38F, 0x1p-24F,     0x1p-25F,     0x1.8p-24F,       -0x1p-14F, 0x1.ffep-15F, -0.1F, 0};
  const GatedProblem p = OneProduct({StateType::kFloat16, 0}, 1, value);
  const std::vector<double> row = RowOf(p, Replay(p), 1);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(row[i], ref::RoundToFloat16(value[i])) << value[i];
}

TEST_P(GatedReplayTest, KeepsASaturatedStateFinite) {
  for (const int32_t ring : {0, 4}) {
    GatedProblem p = OneProduct({StateType::kFloat16, ring}, 300, std::vector<float>(16, -300));
    GatedOutcome got = {{}, p.states};
    for (int t = 0; t < 12; ++t) got = RunReplay(device(), p, 0, 1, got.states);
    for (const double s : RowOf(p, got, 1)) EXPECT_EQ(s, -65504) << ring;
    for (const float o : got.out) EXPECT_TRUE(std::isfinite(o));
  }
}

// That the sixth number of a row is none: in int8 with its row, else by itself beside twos.
void ExpectNone(StateType type, const std::vector<double>& row) {
  for (int i = 0; i < 16; ++i) {
    const bool is_none = i == 5 || type == StateType::kInt8;
    EXPECT_EQ(std::isnan(row[i]), is_none) << static_cast<int>(type) << " " << i;
    if (!is_none) {
      EXPECT_EQ(row[i], 2);
    }
  }
}

TEST_P(GatedReplayTest, KeepsWhatIsNoNumber) {
  std::vector<float> value(16, 2);
  value[5] = std::numeric_limits<float>::quiet_NaN();
  for (const StateType type : kTypes) {
    const GatedProblem p = OneProduct({type, 0}, 1, value);
    const GatedOutcome got = Replay(p);
    ExpectNone(type, RowOf(p, got, 1));
    // The same out of a ring, for which the token waits.
    const GatedProblem held = OneProduct({type, 4}, 1, value);
    GatedOutcome folded = Replay(held);
    folded.states = RunFold(device(), held.shape, {1}, folded.states);
    ExpectNone(type, RowOf(held, folded, 1));
  }
}

TEST_P(GatedReplayTest, RoundsInt8ByRowsAndLeavesZeroRowsZero) {
  std::vector<float> value(16);
  for (int i = 0; i < 16; ++i) value[i] = static_cast<float>(8 * i - 60) + 0.3F;
  value[3] = 127;
  const GatedProblem p = OneProduct({StateType::kInt8, 0}, 1, value);
  const GatedOutcome got = Replay(p);
  const std::vector<double> row = RowOf(p, got, 1);
  for (int i = 0; i < 16; ++i) EXPECT_EQ(row[i], std::nearbyint(value[i])) << value[i];
  for (const double s : RowOf(p, got, 0)) EXPECT_EQ(s, 0);
  // Numbers that would take a scale below what float32 can divide by.
  const GatedProblem tiny =
      OneProduct({StateType::kInt8, 0}, 1e-30F, std::vector<float>(16, 1e-9F));
  for (const double s : RowOf(tiny, Replay(tiny), 1)) EXPECT_EQ(s, 0);
}

TEST_P(GatedReplayTest, KeepsAPackedStateThatNothingChanges) {
  for (const StateType type : kTypes) {
    GatedProblem p =
        MakeGatedProblem(WithState(ScaledShape(DType::kFloat32, 2, 2, 32, 48), {type, 1}),
                         Runs(1, 5), Gates::kZero, 1700);
    p.k.assign(p.k.size(), 0);
    const GatedOutcome got = Replay(p);
    const std::vector<double> before = UnpackState(p.shape, p.State(1));
    const std::vector<double> after =
        UnpackState(p.shape, Part(got.states, p.shape.StateFloats(), p.shape.StateFloats()));
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_NEAR(after[i], before[i], 1e-6 * std::abs(before[i]));
    }
  }
}

TEST_P(GatedReplayTest, GoesFromStepsToChunksAndBack) {
  uint64_t seed = 1800;
  for (const StateFormat& format : AllFormats()) {
    for (const GatedKind& kind : AllGatedKinds()) {
      SCOPED_TRACE(testing::Message() << FormatName(format) << " " << kind.name);
      const int32_t heads = kind.shared_keys == 1 ? 8 : 4;
      const GatedShape shape = WithState(ScaledShape(DType::kFloat32, heads, 4, 32, 48), format);
      const GatedProblem steps = MakeGatedProblem(shape, Runs(2, 3), Gates::kTypical, ++seed, kind);
      GatedProblem chunk =
          MakeGatedProblem(shape, {{70, 3, 0}, {5, 3, 0}}, Gates::kTypical, ++seed, kind);
      chunk.states = Replay(steps).states;
      chunk.first_row = 2;
      const GatedOutcome chunked = RunGatedChunk(device(), chunk);
      ExpectIsRoundedRecurrence(chunk, chunked, {{2e-5, 2e-4}, ToleranceOf(shape).state});
      GatedProblem after = MakeGatedProblem(shape, Runs(2, 3), Gates::kTypical, ++seed, kind);
      after.states = chunked.states;
      if (!format.IsPlain()) ExpectAgreesWithReplay(after, Replay(after), ToleranceOf(shape));
    }
  }
}

}  // namespace
}  // namespace sluice
