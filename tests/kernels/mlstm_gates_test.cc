#include "kernels/mlstm_gates.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/mlstm_gates_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

struct Problem {
  DType dtype;
  int64_t heads;
  float soft_cap;
  int64_t padding;                 // between rows of input and forget
  std::vector<int32_t> slots;      // of the decode rows
  std::vector<TokenRun> runs;      // the prefill segments
  std::vector<float> input;        // [rows, heads]
  std::vector<float> forget;       // [rows, heads]
  std::vector<float> input_bias;   // [heads] or empty
  std::vector<float> forget_bias;  // [heads] or empty
  std::vector<float> max;          // [slots, heads]
};

struct Result {
  std::vector<float> log_decay;
  std::vector<float> input_scale;
  std::vector<float> log_floor;
  std::vector<float> max;
};

Result Gated(Device& device, const Problem& p) {
  const DeviceBatch batch(device, p);
  const Input input(device, Spread(p.input, p.heads, p.heads + p.padding), p.dtype);
  const Input forget(device, Spread(p.forget, p.heads, p.heads + p.padding + 3), p.dtype);
  const Input input_bias(device, p.input_bias);
  const Input forget_bias(device, p.forget_bias);
  const int64_t slot_stride = p.heads + 5;
  const Output max(device, Spread(p.max, p.heads, slot_stride));
  const auto bytes = static_cast<int64_t>(p.input.size()) * 4;
  const Output log_decay(device, bytes);
  const Output input_scale(device, bytes);
  const Output log_floor(device, bytes);
  device.MlstmGates({.dtype = p.dtype,
                     .heads = static_cast<int32_t>(p.heads),
                     .decode_rows = batch.decode_rows,
                     .slots = batch.slots(),
                     .segment_count = batch.segment_count(),
                     .segments = batch.segments(),
                     .rows = batch.packed.rows,
                     .input = input.data(),
                     .input_stride = p.heads + p.padding,
                     .forget = forget.data(),
                     .forget_stride = p.heads + p.padding + 3,
                     .input_bias = input_bias.as<float>(),
                     .forget_bias = forget_bias.as<float>(),
                     .soft_cap = p.soft_cap,
                     .max = max.as<float>(),
                     .slot_stride = slot_stride,
                     .log_decay = log_decay.as<float>(),
                     .input_scale = input_scale.as<float>(),
                     .log_floor = log_floor.as<float>()});
  const std::vector<float> written = max.Read<float>();
  EXPECT_TRUE(AllPoison(Columns(written, p.heads, 5, slot_stride))) << "written between slots";
  return {log_decay.Read<float>(), input_scale.Read<float>(), log_floor.Read<float>(),
          Columns(written, 0, p.heads, slot_stride)};
}

struct Want {
  ref::MlstmGatesResult rows;
  std::vector<double> max;  // [slots, heads]
};

Want WantOf(const Problem& p) {
  Want want;
  want.max.assign(p.max.begin(), p.max.end());
  size_t at = 0;
  for (const TokenRun& run : Sequences(p)) {
    const size_t count = run.length * p.heads;
    const ref::MlstmGatesResult one =
        ref::MlstmGates(Part(p.input, at, count), Part(p.forget, at, count), p.input_bias,
                        p.forget_bias, Part(p.max, run.slot * p.heads, p.heads), p.soft_cap);
    const auto append = [](std::vector<double>& to, const std::vector<double>& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(want.rows.log_decay, one.log_decay);
    append(want.rows.input_scale, one.input_scale);
    append(want.rows.log_floor, one.log_floor);
    std::copy(one.max.begin(), one.max.end(), want.max.begin() + run.slot * p.heads);
    at += count;
  }
  return want;
}

// `size`: how large m gets; what is rounded is of that size.
void ExpectAgrees(Device& device, const Problem& p, double size) {
  const Result got = Gated(device, p);
  const Want want = WantOf(p);
  const double absolute = 5e-7 * size;
  EXPECT_TRUE(EachNear(got.log_decay, want.rows.log_decay, 1e-5, absolute));
  EXPECT_TRUE(EachNear(got.input_scale, want.rows.input_scale, 1e-5 + absolute, 1e-30));
  EXPECT_TRUE(EachNear(got.log_floor, want.rows.log_floor, 1e-5, absolute));
  EXPECT_TRUE(EachNear(got.max, want.max, 1e-5, absolute));
  for (size_t i = 0; i < got.log_decay.size(); ++i) {
    EXPECT_LE(got.log_decay[i], 0.0F);
    EXPECT_LE(got.input_scale[i], 1.0F);
  }
}

struct Shape {
  int64_t heads;
  int64_t padding;
  bool bias;
  float soft_cap;
  int32_t decode_rows;
  std::vector<TokenRun> runs;  // of which slots are given here
};

Problem Make(const Shape& shape, DType dtype, uint64_t seed) {
  Random random(seed);
  const auto sequences = shape.decode_rows + static_cast<int32_t>(shape.runs.size());
  Problem p = {.dtype = dtype,
               .heads = shape.heads,
               .soft_cap = shape.soft_cap,
               .padding = shape.padding,
               .runs = shape.runs};
  const int64_t rows = GiveSlots(shape.decode_rows, p);
  p.input = random.Normals(rows * p.heads, 3.0, dtype);
  p.forget = random.Normals(rows * p.heads, 2.0, dtype);
  if (shape.bias) p.input_bias = random.Normals(p.heads, 3.0);
  if (shape.bias) p.forget_bias = random.Uniforms(p.heads, 2.0, 6.0);
  p.max = random.Normals((sequences + 2) * p.heads, 2.0);
  return p;
}

// Part of the problem's one run: tokens [begin, begin + length), from `max` on.
Problem PartOf(const Problem& p, int32_t begin, int32_t length, const std::vector<float>& max) {
  Problem part = p;
  part.runs[0].length = length;
  part.runs[0].position += begin;
  part.input = Part(p.input, begin * p.heads, length * p.heads);
  part.forget = Part(p.forget, begin * p.heads, length * p.heads);
  part.max = max;
  return part;
}

class MlstmGatesTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, MlstmGatesTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(MlstmGatesRef, GatesByHand) {
  // One head. f is -log 2, then -log 2: m is max(1 - log 2, 0), then 2.
  const ref::MlstmGatesResult result = ref::MlstmGates({0, 2}, {0, 1}, {}, {-0.0F}, {1}, 0);
  EXPECT_DOUBLE_EQ(result.log_floor[0], std::log(2.0) - 1);
  EXPECT_DOUBLE_EQ(result.log_decay[0], 0);
  EXPECT_DOUBLE_EQ(result.input_scale[0], std::exp(std::log(2.0) - 1));
  EXPECT_DOUBLE_EQ(result.max[0], 2);
  EXPECT_DOUBLE_EQ(result.input_scale[1], 1);
  EXPECT_DOUBLE_EQ(result.log_decay[1], -std::log1p(std::exp(-1.0)) + 1 - std::log(2.0) - 2);
  EXPECT_DOUBLE_EQ(ref::SoftCap(1e9, 15), 15);
}

TEST_P(MlstmGatesTest, AgreesWithTheOracle) {
  const std::vector<Shape> shapes = {
      {1, 0, false, 0, 1, {}},
      {4, 0, true, 15, 3, {}},
      {1, 0, false, 0, 0, {{1, 0, 0}}},
      {4, 4, true, 15, 0, {{64, 0, 0}}},
      {3, 1, true, 0, 5, {{63, 0, 0}, {65, 0, 0}, {2, 63, 0}, {1, 200, 0}}},
      {8, 8, true, 15, 0, {{1024, 0, 0}, {1025, 5, 0}}},
      {2, 0, false, 30, 1, {{3000, 37, 0}}},
      {17, 0, true, 15, 70, {{129, 1, 0}, {64, 64, 0}}},
      {256, 0, true, 15, 2, {{70, 100, 0}}},
  };
  uint64_t seed = 900;
  for (const Shape& shape : shapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message()
                   << DTypeName(dtype) << " heads " << shape.heads << " seed " << seed + 1);
      ExpectAgrees(device(), Make(shape, dtype, ++seed), 20);
    }
  }
}

TEST_P(MlstmGatesTest, IsStableFarOut) {
  for (const float soft_cap : {0.0F, 15.0F}) {
    for (const float size : {100.0F, 1e4F}) {
      SCOPED_TRACE(testing::Message() << "cap " << soft_cap << " size " << size);
      Problem p = Make({3, 0, false, soft_cap, 4, {{300, 10, 0}}}, DType::kFloat32, 930);
      Random random(931);
      for (float& x : p.input) x = random.Below(2) == 0 ? size : -size;
      for (float& x : p.forget) x = random.Below(8) == 0 ? -size : size;
      // One head that forgets and takes in nothing for long.
      for (size_t i = 0; i < p.input.size(); i += 3) p.input[i] = p.forget[i] = -size;
      ExpectAgrees(device(), p, size);
    }
  }
}

TEST_P(MlstmGatesTest, ASequenceDoesNotDependOnItsBatchNorOnItsSlot) {
  const Problem p =
      Make({5, 2, true, 15, 3, {{1100, 9, 0}, {2, 64, 0}}}, ActivationTypes().back(), 940);
  const Result all = Gated(device(), p);
  int64_t row = 0;
  for (const TokenRun& run : Sequences(p)) {
    const size_t count = run.length * p.heads;
    Problem one = p;
    one.slots.clear();  // A decode row is a segment of one token.
    one.runs = {{run.length, run.position, 0}};
    one.input = Part(p.input, row * p.heads, count);
    one.forget = Part(p.forget, row * p.heads, count);
    one.max = Part(p.max, run.slot * p.heads, p.heads);
    const Result alone = Gated(device(), one);
    EXPECT_TRUE(SameBits(alone.log_decay, Part(all.log_decay, row * p.heads, count)));
    EXPECT_TRUE(SameBits(alone.input_scale, Part(all.input_scale, row * p.heads, count)));
    EXPECT_TRUE(SameBits(alone.log_floor, Part(all.log_floor, row * p.heads, count)));
    EXPECT_TRUE(SameBits(alone.max, Part(all.max, run.slot * p.heads, p.heads)));
    row += run.length;
  }
}

TEST_P(MlstmGatesTest, ASplitOnTheGridChangesNoBit) {
  constexpr int32_t kPosition = 40;
  constexpr int32_t kLength = 2500;
  const Problem whole =
      Make({4, 0, true, 15, 0, {{kLength, kPosition, 0}}}, ActivationTypes().back(), 950);
  const Result want = Gated(device(), whole);
  for (const int32_t position : {64, 128, 1024, 1088, 2112, 2496}) {
    SCOPED_TRACE(position);
    const int32_t split = position - kPosition;
    const Result first = Gated(device(), PartOf(whole, 0, split, whole.max));
    const Result second = Gated(device(), PartOf(whole, split, kLength - split, first.max));
    EXPECT_TRUE(SameBits(second.max, want.max));
    const size_t at = first.log_decay.size();
    const size_t rest = second.log_decay.size();
    EXPECT_TRUE(SameBits(first.log_decay, Part(want.log_decay, 0, at)));
    EXPECT_TRUE(SameBits(second.log_decay, Part(want.log_decay, at, rest)));
    EXPECT_TRUE(SameBits(first.input_scale, Part(want.input_scale, 0, at)));
    EXPECT_TRUE(SameBits(second.input_scale, Part(want.input_scale, at, rest)));
    EXPECT_TRUE(SameBits(first.log_floor, Part(want.log_floor, 0, at)));
    EXPECT_TRUE(SameBits(second.log_floor, Part(want.log_floor, at, rest)));
  }
}

TEST_P(MlstmGatesTest, AHeadDoesNotDependOnHowManyThereAre) {
  const Problem p = Make({13, 0, true, 15, 2, {{100, 0, 0}}}, ActivationTypes().back(), 960);
  const Result all = Gated(device(), p);
  for (const int64_t head : {0, 7, 12}) {
    Problem one = p;
    one.heads = 1;
    one.input = Columns(p.input, head, 1, 13);
    one.forget = Columns(p.forget, head, 1, 13);
    one.input_bias = {p.input_bias[head]};
    one.forget_bias = {p.forget_bias[head]};
    one.max = Columns(p.max, head, 1, 13);
    const Result alone = Gated(device(), one);
    EXPECT_TRUE(SameBits(alone.log_decay, Columns(all.log_decay, head, 1, 13)));
    EXPECT_TRUE(SameBits(alone.max, Columns(all.max, head, 1, 13)));
  }
}

TEST(MlstmGatesThreads, GiveTheSameBits) {
  const Problem p =
      Make({9, 0, true, 15, 300, {{33, 0, 0}, {70, 3, 0}, {5, 0, 0}}}, DType::kFloat32, 970);
  const Result one = Gated(*CreateCpuDevice(1), p);
  const Result two = Gated(*CreateCpuDevice(2), p);
  EXPECT_TRUE(SameBits(one.log_decay, two.log_decay));
  EXPECT_TRUE(SameBits(one.max, two.max));
}

using MlstmGatesDeathTest = MlstmGatesTest;
INSTANTIATE_TEST_SUITE_P(Devices, MlstmGatesDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(MlstmGatesDeathTest, RefusesWhatBreaksALimit) {
  Problem bad = Make({4, 0, true, -1, 1, {}}, DType::kFloat32, 980);
  EXPECT_DEATH(Gated(device(), bad), kCheckFailed);
  bad.soft_cap = 0;
  Gated(device(), bad);
  bad.padding = -1;
  EXPECT_DEATH(Gated(device(), bad), kCheckFailed);
  if (!is_cuda()) {
    bad = Make({4, 0, true, 0, 1, {}}, DType::kBFloat16, 982);
    EXPECT_DEATH(Gated(device(), bad), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
