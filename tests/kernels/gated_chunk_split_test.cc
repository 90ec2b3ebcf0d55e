// What a sequence's bits do not depend on: its batch, its slot, and where on the grid its prompt is
// split.
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_problem.h"

namespace sluice {
namespace {

class GatedChunkSplitTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, GatedChunkSplitTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

// Every sequence alone gives what it gave in its batch.
void ExpectSequencesAlone(Device& device, const GatedProblem& p) {
  const GatedOutcome all = RunGatedChunk(device, p);
  const int64_t out_cols = int64_t{p.shape.heads} * p.shape.value_dim;
  const int64_t state_size = p.shape.StateSize();
  int64_t token = 0;
  for (size_t run = 0; run < p.runs.size(); ++run) {
    const TokenRun tokens = p.runs[run];
    const GatedOutcome alone =
        RunGatedChunk(device, PartOf(p, run, 0, tokens.length, p.State(tokens.slot)));
    EXPECT_TRUE(SameBits(alone.out, Part(all.out, token * out_cols, tokens.length * out_cols)))
        << run;
    EXPECT_TRUE(SameBits(alone.states, Part(all.states, tokens.slot * state_size, state_size)))
        << run;
    token += tokens.length;
  }
}

TEST_P(GatedChunkSplitTest, ASequenceDoesNotDependOnItsBatchNorOnItsSlot) {
  for (const GatedKind& kind : AllGatedKinds()) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << kind.name);
      const int32_t kv_heads = kind.shared_keys == 1 ? 2 : 4;
      GatedProblem p = MakeGatedProblem(ScaledShape(dtype, 4, kv_heads, 48, 80),
                                        {{5, 0, 0}, {70, 37, 0}, {64, 64, 0}, {1, 9, 0}},
                                        Gates::kTypical, 1080, kind);
      p.first_row = 2;
      p.wide = true;
      ExpectSequencesAlone(device(), p);
    }
  }
}

// A GPU prepares few chunks by another kernel than many.
TEST_P(GatedChunkSplitTest, ASequenceDoesNotDependOnHowManyThereAre) {
  const std::vector<TokenRun> runs(30, {130, 10, 0});
  for (const ReadKind read : {ReadKind::kInclusive, ReadKind::kExclusive}) {
    const GatedKind kind = {.name = "vector", .read = read, .input_scale = true};
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " read " << static_cast<int>(read));
      for (const int32_t key_dim : {80, 192}) {
        ExpectSequencesAlone(device(), MakeGatedProblem(ScaledShape(dtype, 4, 4, key_dim, 16), runs,
                                                        Gates::kMixed, 1085, kind));
      }
    }
  }
}

// Runs run 0 of the problem in parts that end after `ends` tokens.
GatedOutcome RunInParts(Device& device, const GatedProblem& p, const std::vector<int64_t>& ends) {
  GatedOutcome parts = {{}, p.State(p.runs[0].slot)};
  int64_t begin = 0;
  for (const int64_t end : ends) {
    const GatedOutcome part = RunGatedChunk(device, PartOf(p, 0, begin, end - begin, parts.states));
    parts.out.insert(parts.out.end(), part.out.begin(), part.out.end());
    parts.states = part.states;
    begin = end;
  }
  return parts;
}

void ExpectSameBitsInParts(Device& device, const GatedProblem& p,
                           const std::vector<std::vector<int64_t>>& splits) {
  const GatedOutcome whole = RunGatedChunk(device, p);
  for (const std::vector<int64_t>& ends : splits) {
    const GatedOutcome parts = RunInParts(device, p, ends);
    EXPECT_TRUE(SameBits(parts.out, whole.out));
    EXPECT_TRUE(
        SameBits(parts.states, Part(whole.states, p.shape.StateSize(), p.shape.StateSize())));
  }
}

TEST_P(GatedChunkSplitTest, ASplitOnTheGridChangesNoBit) {
  constexpr struct {
    int32_t heads;
    int32_t kv_heads;
    int32_t key_dim;
    int32_t value_dim;
    Gates gates;
  } kShapes[] = {{2, 1, 64, 128, Gates::kTypical},
                 {3, 3, 48, 80, Gates::kMixed},
                 {1, 1, 256, 512, Gates::kTypical},
                 {2, 2, 16, 16, Gates::kStrong}};
  for (const auto& shape : kShapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " K=" << shape.key_dim);
      // 27 tokens to the grid, then 64 at a time, then 45.
      GatedProblem p = MakeGatedProblem(
          ScaledShape(dtype, shape.heads, shape.kv_heads, shape.key_dim, shape.value_dim),
          {{200, 101, 0}}, shape.gates, 1090);
      p.wide = true;
      ExpectSameBitsInParts(device(), p, {{27, 200}, {91, 200}, {27, 91, 155, 200}, {155, 200}});
    }
  }
}

TEST_P(GatedChunkSplitTest, ASplitOnTheGridChangesNoBitOfAnyKind) {
  for (const GatedKind& kind : AllGatedKinds()) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << kind.name);
      const GatedProblem p = MakeGatedProblem(ScaledShape(dtype, 4, 4, 48, 48), {{110, 50, 0}},
                                              Gates::kMixed, 1095, kind);
      ExpectSameBitsInParts(device(), p, {{14, 78, 110}, {78, 110}});
      // Several slices of K and of V, and more chunks than a pipeline has stages.
      const GatedProblem wide = MakeGatedProblem(ScaledShape(dtype, 4, 4, 80, 144), {{400, 101, 0}},
                                                 Gates::kMixed, 1096, kind);
      ExpectSameBitsInParts(device(), wide, {{27, 283, 400}});
    }
  }
}

}  // namespace
}  // namespace sluice
