#include "kernels/lerp.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/lerp_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {1e-6, 5e-6};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

struct Problem {
  DType dtype;
  int32_t dim;
  int32_t padding;           // between rows of x, mix and y; a multiple of 8
  std::vector<float> x;      // [rows, dim]
  std::vector<float> delta;  // [rows, dim]
  std::vector<float> mu;     // [count, dim] or empty
  std::vector<float> mix;    // [count, rows, dim] or empty
  int32_t count = 1;
  bool in_place = false;  // y is mix
  // By how much more mix has than it would.
  int64_t more_stride = 0;
  int64_t more_step = 0;
};

std::vector<float> Mixed(Device& device, const Problem& p) {
  const int64_t stride = int64_t{p.dim} + p.padding;
  const Input x(device, Spread(p.x, p.dim, stride), p.dtype);
  const Input delta(device, p.delta, p.dtype);
  const Input mu(device, p.mu);
  const Input mix(device, Spread(p.mix, p.dim, stride + 8), p.dtype);
  const std::vector<float> nothing(p.count * p.x.size(), kPoisonNumber);
  const Output y(device, Spread(p.in_place ? p.mix : nothing, p.dim, stride + 16), p.dtype);
  const auto rows = static_cast<int32_t>(p.x.size() / static_cast<size_t>(p.dim));
  const int64_t mix_stride = p.in_place ? stride + 16 : stride + 8;
  device.Lerp({.dtype = p.dtype,
               .rows = rows,
               .dim = p.dim,
               .x = x.data(),
               .x_stride = stride,
               .delta = delta.data(),
               .mu = mu.as<float>(),
               .mix = p.in_place ? y.data() : mix.data(),
               .mix_stride = mix_stride + p.more_stride,
               .y = y.data(),
               .y_stride = stride + 16,
               .count = p.count,
               .mix_step = rows * mix_stride + p.more_step,
               .y_step = rows * (stride + 16)});
  const std::vector<float> written = y.Read(p.dtype);
  EXPECT_TRUE(AllPoison(Columns(written, p.dim, p.padding + 16, stride + 16)))
      << "written between rows";
  return Columns(written, 0, p.dim, stride + 16);
}

struct Factors {
  bool mu = true;
  bool mix = true;
};

Problem Make(DType dtype, int64_t rows, int32_t dim, Factors factors, uint64_t seed,
             int32_t count = 1) {
  Random random(seed);
  Problem p = {.dtype = dtype,
               .dim = dim,
               .padding = rows % 2 == 0 ? 8 : 0,
               .x = random.Normals(rows * dim, 1.0, dtype),
               .delta = random.Normals(rows * dim, 1.5, dtype),
               .mu = {},
               .mix = {},
               .count = count};
  if (factors.mu) p.mu = random.Uniforms(int64_t{count} * dim, 0, 1);
  if (factors.mix) p.mix = random.Normals(count * rows * dim, 0.3, dtype);
  return p;
}

class LerpTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, LerpTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(LerpRef, MixesByHand) {
  EXPECT_EQ(ref::Lerp({1, 2}, {10, 20}, {0.5, 0.25}, {0, 1}, 2), std::vector<double>({6, 27}));
  EXPECT_EQ(ref::Lerp({1, 2}, {10, 20}, {}, {}, 2), std::vector<double>({1, 2}));
}

TEST_P(LerpTest, MixesByHand) {
  const Problem p = {.dtype = DType::kFloat32,
                     .dim = 8,
                     .padding = 0,
                     .x = {1, 2, 3, 4, 5, 6, 7, 8},
                     .delta = {8, 8, 8, 8, -8, -8, -8, 0},
                     .mu = {0, 0.5, 1, 0.25, 0, 0.5, 1, 9},
                     .mix = {0, 0, 0, 0.25, 1, 0.5, -1, 9}};
  EXPECT_EQ(Mixed(device(), p), std::vector<float>({1, 6, 11, 8, -3, -2, 7, 8}));
}

// With and without each of the two kinds of factors.
void CompareWithTheOracle(Device& device, DType dtype, int64_t rows, int32_t dim) {
  for (const int variant : {0, 1, 2, 3}) {
    SCOPED_TRACE(testing::Message()
                 << DTypeName(dtype) << " " << rows << "x" << dim << " variant " << variant);
    const uint64_t seed = 800 + rows * 10000 + dim * 4 + variant;
    const Problem p = Make(dtype, rows, dim, {variant % 2 == 1, variant >= 2}, seed);
    EXPECT_TRUE(Near(Mixed(device, p), ref::Lerp(p.x, p.delta, p.mu, p.mix, p.dim),
                     dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
  }
}

TEST_P(LerpTest, AgreesWithTheOracle) {
  for (const DType dtype : ActivationTypes()) {
    for (const int32_t dim : {8, 24, 384, 2056}) {
      for (const int64_t rows : {1, 2, 67}) CompareWithTheOracle(device(), dtype, rows, dim);
    }
  }
}

// Also in place of the mixes' own amounts.
void CompareSeveral(Device& device, DType dtype, int64_t rows, int32_t count) {
  for (const int variant : {0, 1, 2, 3}) {
    SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << count << " of " << rows
                                    << " rows, variant " << variant);
    const Factors factors = {variant % 2 == 1, variant >= 2};
    Problem p = Make(dtype, rows, 264, factors, 860 + rows, count);
    const std::vector<double> want = ref::Lerp(p.x, p.delta, p.mu, p.mix, p.dim, count);
    const bool exact = dtype == DType::kFloat32;
    const std::vector<float> mixed = Mixed(device, p);
    EXPECT_TRUE(Near(mixed, want, exact ? kFloat32Tolerance : kBFloat16Tolerance));
    if (p.mix.empty()) continue;
    p.in_place = true;
    EXPECT_TRUE(SameBits(Mixed(device, p), mixed));
  }
}

TEST_P(LerpTest, MakesSeveralMixesOfTheSameRows) {
  for (const DType dtype : ActivationTypes()) {
    for (const int32_t count : {2, 5, kMaxLerps}) {
      for (const int64_t rows : {1, 2, 33}) CompareSeveral(device(), dtype, rows, count);
    }
  }
}

TEST_P(LerpTest, AMixIsTheSameBitsAloneAndAmongOthers) {
  const Problem p = Make(ActivationTypes().back(), 9, 56, {}, 870, 3);
  const std::vector<float> all = Mixed(device(), p);
  for (const size_t i : {0, 1, 2}) {
    Problem one = p;
    one.count = 1;
    one.mu = Part(p.mu, i * 56, 56);
    one.mix = Part(p.mix, i * 9 * 56, 9 * 56);
    EXPECT_TRUE(SameBits(Mixed(device(), one), Part(all, i * 9 * 56, 9 * 56))) << i;
  }
}

TEST_P(LerpTest, ARowDoesNotDependOnItsBatch) {
  const Problem p = Make(ActivationTypes().back(), 33, 56, {}, 850);
  const std::vector<float> all = Mixed(device(), p);
  for (const size_t row : {0, 13, 32}) {
    Problem one = p;
    one.x = Part(p.x, row * 56, 56);
    one.delta = Part(p.delta, row * 56, 56);
    one.mix = Part(p.mix, row * 56, 56);
    EXPECT_TRUE(SameBits(Mixed(device(), one), Part(all, row * 56, 56))) << row;
  }
}

TEST(LerpThreads, GiveTheSameBits) {
  const Problem p = Make(DType::kFloat32, 67, 1000, {}, 851);
  EXPECT_TRUE(SameBits(Mixed(*CreateCpuDevice(1), p), Mixed(*CreateCpuDevice(2), p)));
}

using LerpDeathTest = LerpTest;
INSTANTIATE_TEST_SUITE_P(Devices, LerpDeathTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST_P(LerpDeathTest, RefusesWhatBreaksALimit) {
  EXPECT_DEATH(Mixed(device(), Make(DType::kFloat32, 1, 12, {}, 852)), kCheckFailed);
  EXPECT_DEATH(Mixed(device(), Make(DType::kFloat32, 1, 8, {}, 854, kMaxLerps + 1)), kCheckFailed);
  EXPECT_DEATH(Mixed(device(), Make(DType::kFloat32, 1, 8, {false, false}, 855, 0)), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Mixed(device(), Make(DType::kBFloat16, 1, 8, {}, 853)), kCheckFailed);
  }
}

TEST_P(LerpDeathTest, RefusesAPlaceOfAnotherShape) {
  Problem p = Make(DType::kFloat32, 3, 16, {}, 856, 2);
  p.in_place = true;
  p.more_stride = -8;
  EXPECT_DEATH(Mixed(device(), p), kCheckFailed);
  p.more_stride = 0;
  p.more_step = -8;
  EXPECT_DEATH(Mixed(device(), p), kCheckFailed);
}

TEST_P(LerpTest, TheStepOfASingleMixMeansNothing) {
  Problem p = Make(DType::kFloat32, 3, 16, {}, 857);
  const std::vector<float> mixed = Mixed(device(), p);
  p.in_place = true;
  p.more_step = -7;
  EXPECT_TRUE(SameBits(Mixed(device(), p), mixed));
}

}  // namespace
}  // namespace sluice
