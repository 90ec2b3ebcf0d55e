#include "kernels/token_shift.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/batch_sequences.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"
#include "tests/kernels/token_shift_ref.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {1e-7, 1e-7};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

struct Problem {
  DType dtype;
  int64_t dim;
  int64_t padding;             // between rows of x
  std::vector<int32_t> slots;  // of the decode rows
  std::vector<TokenRun> runs;  // the prefill segments
  std::vector<float> x;        // [rows, dim]
  std::vector<float> last;     // [slot count, dim]
  std::vector<float> mu;       // [mixes, dim]
  bool wants_delta = true;
};

struct Result {
  std::vector<float> delta;
  std::vector<float> last;
  std::vector<float> mixed;  // [mixes, rows, dim]
};

Result Shifted(Device& device, const Problem& p) {
  const DeviceBatch batch(device, p);
  const Input x(device, Spread(p.x, p.dim, p.dim + p.padding), p.dtype);
  const int64_t slot_stride = p.dim + 20;
  const Output last(device, Spread(p.last, p.dim, slot_stride));
  const int64_t bytes = static_cast<int64_t>(p.x.size()) * DTypeBytes(p.dtype);
  const auto mixes = static_cast<int32_t>(static_cast<int64_t>(p.mu.size()) / p.dim);
  const Output delta(device, bytes);
  const Input mu(device, p.mu);
  const Output mixed(device, mixes * bytes);
  device.TokenShift({.dtype = p.dtype,
                     .dim = static_cast<int32_t>(p.dim),
                     .decode_rows = batch.decode_rows,
                     .slots = batch.slots(),
                     .segment_count = batch.segment_count(),
                     .segments = batch.segments(),
                     .rows = batch.packed.rows,
                     .x = x.data(),
                     .x_stride = p.dim + p.padding,
                     .last = last.as<float>(),
                     .slot_stride = slot_stride,
                     .delta = p.wants_delta ? delta.data() : nullptr,
                     .mixes = mixes,
                     .mu = mu.as<float>(),
                     .mixed = mixed.data()});
  const std::vector<float> written = last.Read<float>();
  EXPECT_TRUE(AllPoison(Columns(written, p.dim, 20, slot_stride))) << "written between slots";
  return {delta.Read(p.dtype), Columns(written, 0, p.dim, slot_stride), mixed.Read(p.dtype)};
}

void ExpectAgrees(Device& device, const Problem& p) {
  const Result got = Shifted(device, p);
  std::vector<double> delta;
  std::vector<float> last = p.last;
  for (const TokenRun& sequence : Sequences(p)) {
    const ref::TokenShiftResult want =
        ref::TokenShift(Part(p.x, delta.size(), sequence.length * p.dim),
                        Part(p.last, sequence.slot * p.dim, p.dim));
    delta.insert(delta.end(), want.delta.begin(), want.delta.end());
    std::copy(want.last.begin(), want.last.end(), last.begin() + sequence.slot * p.dim);
  }
  EXPECT_TRUE(
      Near(got.delta, delta, p.dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
  // Slots hold tokens as they were; those that are not in the batch stay.
  EXPECT_TRUE(SameBits(got.last, last));
}

std::vector<double> WantedMixes(const Problem& p) {
  std::vector<double> want;
  for (size_t mix = 0; mix < p.mu.size(); mix += p.dim) {
    size_t at = 0;
    for (const TokenRun& sequence : Sequences(p)) {
      const size_t size = sequence.length * p.dim;
      const ref::TokenShiftResult result = ref::TokenShift(
          Part(p.x, at, size), Part(p.last, sequence.slot * p.dim, p.dim), Part(p.mu, mix, p.dim));
      want.insert(want.end(), result.mixed.begin(), result.mixed.end());
      at += size;
    }
  }
  return want;
}

struct Shape {
  int64_t dim;
  int64_t padding;
  int32_t decode_rows;
  std::vector<int32_t> lengths;
};

Problem Make(const Shape& shape, DType dtype, uint64_t seed) {
  Random random(seed);
  const auto sequences = shape.decode_rows + static_cast<int32_t>(shape.lengths.size());
  Problem p = {.dtype = dtype, .dim = shape.dim, .padding = shape.padding};
  p.runs = RandomRuns(shape.lengths, random);
  const int64_t rows = GiveSlots(shape.decode_rows, p);
  p.x = random.Normals(rows * p.dim, 1.0, dtype);
  p.last = random.Normals((sequences + 2) * p.dim, 1.0, dtype);
  return p;
}

class TokenShiftTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, TokenShiftTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(TokenShiftRef, ShiftsByHand) {
  const ref::TokenShiftResult result = ref::TokenShift({1, 2, 10, 20}, {5, 7}, {0.5, 1});
  EXPECT_EQ(result.delta, std::vector<double>({4, 5, -9, -18}));
  EXPECT_EQ(result.last, std::vector<float>({10, 20}));
  EXPECT_EQ(result.mixed, std::vector<double>({3, 7, 5.5, 2}));
}

TEST_P(TokenShiftTest, AgreesWithTheOracle) {
  const std::vector<Shape> shapes = {
      {8, 0, 1, {}},         {8, 0, 0, {1}},        {24, 8, 3, {1, 2, 15, 16, 17}},
      {384, 0, 5, {63, 64}}, {64, 0, 0, {3000}},    {1032, 16, 2, {3, 1, 2}},
      {2048, 0, 64, {}},     {16, 0, 16, {1, 200}}, {8, 0, 3, {2100, 5, 1, 90}},
  };
  uint64_t seed = 700;
  for (const Shape& shape : shapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " dim " << shape.dim);
      ExpectAgrees(device(), Make(shape, dtype, ++seed));
    }
  }
}

// Each of the results with and without the others.
TEST_P(TokenShiftTest, MixesEachTokenWithTheOneBefore) {
  for (const DType dtype : ActivationTypes()) {
    for (const int64_t mixes : {1, 2, kMaxTokenMixes}) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << mixes << " mixes");
      Problem p = Make({264, 8, 3, {1, 40, 17}}, dtype, 710 + mixes);
      const Result without = Shifted(device(), p);
      p.mu = Random(715).Uniforms(mixes * p.dim, 0, 1);
      const Result with = Shifted(device(), p);
      EXPECT_TRUE(SameBits(with.delta, without.delta));
      p.wants_delta = false;
      const Result alone = Shifted(device(), p);
      EXPECT_TRUE(AllPoison(alone.delta));
      EXPECT_TRUE(SameBits(alone.mixed, with.mixed));
      EXPECT_TRUE(SameBits(alone.last, with.last));
      const std::vector<double> want = WantedMixes(p);
      EXPECT_TRUE(Near(with.mixed, want, {dtype == DType::kFloat32 ? 1e-6 : 4e-3, 5e-3}));
    }
  }
}

TEST_P(TokenShiftTest, ASequenceDoesNotDependOnItsBatchNorOnItsSlot) {
  Problem p = Make({40, 8, 3, {70, 2}}, ActivationTypes().back(), 720);
  p.mu = Random(721).Uniforms(p.dim, 0, 1);
  const Result all = Shifted(device(), p);
  int64_t row = 0;
  for (const TokenRun& sequence : Sequences(p)) {
    Problem one = p;
    one.slots.clear();
    one.runs = {{sequence.length, sequence.position, 0}};
    one.x = Part(p.x, row * p.dim, sequence.length * p.dim);
    one.last = Part(p.last, sequence.slot * p.dim, p.dim);
    const Result alone = Shifted(device(), one);
    EXPECT_TRUE(SameBits(alone.delta, Part(all.delta, row * p.dim, sequence.length * p.dim)));
    EXPECT_TRUE(SameBits(alone.mixed, Part(all.mixed, row * p.dim, sequence.length * p.dim)));
    EXPECT_TRUE(SameBits(alone.last, Part(all.last, sequence.slot * p.dim, p.dim)));
    row += sequence.length;
  }
}

TEST_P(TokenShiftTest, ASplitChangesNoBit) {
  Problem whole = Make({40, 0, 0, {100}}, ActivationTypes().back(), 730);
  whole.mu = Random(731).Uniforms(whole.dim, 0, 1);
  const Result want = Shifted(device(), whole);
  for (const int32_t split : {1, 16, 64, 99}) {
    SCOPED_TRACE(split);
    Problem part = whole;
    part.runs[0].length = split;
    part.x = Part(whole.x, 0, split * whole.dim);
    const Result first = Shifted(device(), part);
    part.last = first.last;
    part.runs[0].length = 100 - split;
    part.x = Part(whole.x, split * whole.dim, (100 - split) * whole.dim);
    if (split == 99) {  // The last token as a decode row.
      part.slots = {part.runs[0].slot};
      part.runs.clear();
    }
    const Result second = Shifted(device(), part);
    EXPECT_TRUE(SameBits(second.last, want.last));
    EXPECT_TRUE(SameBits(first.delta, Part(want.delta, 0, first.delta.size())));
    EXPECT_TRUE(SameBits(first.mixed, Part(want.mixed, 0, first.mixed.size())));
    EXPECT_TRUE(SameBits(second.mixed, Part(want.mixed, first.mixed.size(), second.mixed.size())));
    EXPECT_TRUE(SameBits(second.delta, Part(want.delta, first.delta.size(), second.delta.size())));
  }
}

TEST(TokenShiftThreads, GiveTheSameBits) {
  Problem p = Make({1000, 0, 9, {33, 70}}, DType::kFloat32, 740);
  p.mu = Random(741).Uniforms(p.dim, 0, 1);
  const Result one = Shifted(*CreateCpuDevice(1), p);
  const Result two = Shifted(*CreateCpuDevice(2), p);
  EXPECT_TRUE(SameBits(one.delta, two.delta));
  EXPECT_TRUE(SameBits(one.mixed, two.mixed));
  EXPECT_TRUE(SameBits(one.last, two.last));
}

using TokenShiftDeathTest = TokenShiftTest;
INSTANTIATE_TEST_SUITE_P(Devices, TokenShiftDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(TokenShiftDeathTest, RefusesWhatBreaksALimit) {
  EXPECT_DEATH(Shifted(device(), Make({12, 0, 1, {}}, DType::kFloat32, 750)), kCheckFailed);
  Problem mixed = Make({8, 0, 1, {}}, DType::kFloat32, 752);
  mixed.mu.assign((kMaxTokenMixes + 1) * mixed.dim, 0.5F);
  EXPECT_DEATH(Shifted(device(), mixed), kCheckFailed);
  const float x[8] = {};
  const float mu[8] = {};
  float last[8] = {};
  float results[8] = {};  // two of them in one place
  const int32_t slot = 0;
  const TokenShiftArgs shared = {.dtype = DType::kFloat32,
                                 .dim = 8,
                                 .decode_rows = 1,
                                 .slots = &slot,
                                 .rows = 1,
                                 .x = x,
                                 .x_stride = 8,
                                 .last = last,
                                 .slot_stride = 8,
                                 .delta = results,
                                 .mixes = 1,
                                 .mu = mu,
                                 .mixed = results};
  EXPECT_DEATH(device().TokenShift(shared), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Shifted(device(), Make({8, 0, 1, {}}, DType::kBFloat16, 751)), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
