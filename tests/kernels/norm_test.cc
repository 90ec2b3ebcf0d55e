#include "kernels/norm.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/norm_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {2e-6, 1e-5};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

struct Problem {
  DType dtype;
  int32_t rows;
  int32_t groups;
  int32_t dim;
  Activation gate_act;
  bool in_place;
  int32_t padding;               // between rows of x, gate and y; a multiple of 8
  std::vector<float> x;          // [rows, groups * dim]
  std::vector<float> weight;     // [dim], [groups * dim] if wide, or empty
  std::vector<float> gate;       // [rows, groups * dim] or empty
  std::vector<float> bias = {};  // as weight
  bool center = false;
  bool wide_weight = false;
  bool gate_first = false;
};

constexpr float kEps = 1e-5F;

std::vector<float> Normed(Device& device, const Problem& p) {
  const int64_t cols = int64_t{p.groups} * p.dim;
  const int64_t stride = cols + p.padding;
  const std::vector<float> spread = Spread(p.x, cols, stride);
  const Input x(device, spread, p.dtype);
  const Input weight(device, p.weight);
  const Input bias(device, p.bias);
  const Input gate(device, Spread(p.gate, cols, stride + 8), p.dtype);
  const Output in_place(device, spread, p.dtype);
  const Output apart(device, static_cast<int64_t>(spread.size()) * DTypeBytes(p.dtype));
  const Output& y = p.in_place ? in_place : apart;
  device.Norm({.dtype = p.dtype,
               .rows = p.rows,
               .groups = p.groups,
               .dim = p.dim,
               .eps = kEps,
               .x = p.in_place ? y.data() : x.data(),
               .x_stride = stride,
               .weight = weight.as<float>(),
               .gate_act = p.gate_act,
               .gate = gate.data(),
               .gate_stride = stride + 8,
               .y = y.data(),
               .y_stride = stride,
               .center = p.center,
               .bias = bias.as<float>(),
               .wide_weight = p.wide_weight,
               .gate_first = p.gate_first});
  const std::vector<float> written = y.Read(p.dtype);
  EXPECT_TRUE(AllPoison(Columns(written, cols, p.padding, stride))) << "written between rows";
  return Columns(written, 0, cols, stride);
}

std::vector<double> Want(const Problem& p) {
  return ref::Norm(p.x, p.weight, p.bias, p.gate,
                   {.dim = static_cast<size_t>(p.dim),
                    .groups = static_cast<size_t>(p.groups),
                    .eps = kEps,
                    .gate_act = p.gate_act,
                    .center = p.center,
                    .wide_weight = p.wide_weight,
                    .gate_first = p.gate_first});
}

Problem RowOf(const Problem& p, int64_t row) {
  const size_t cols = size_t{1} * p.groups * p.dim;
  Problem one = p;
  one.rows = 1;
  one.x = Part(p.x, row * cols, cols);
  if (!p.gate.empty()) one.gate = Part(p.gate, row * cols, cols);
  return one;
}

class NormTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, NormTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(NormRef, NormsByHand) {
  // The mean square of 3, 4 is 12.5; sigmoid(0) is a half.
  const std::vector<double> y = ref::Norm(
      {3, 4}, {1, 2}, {}, {0, 0}, {.dim = 2, .eps = 12.5, .gate_act = Activation::kSigmoid});
  EXPECT_DOUBLE_EQ(y[0], 0.3);
  EXPECT_DOUBLE_EQ(y[1], 0.8);
  // About their mean 5, 3 and 7 are -2 and 2, whose mean square is 4; so are 6 and 14, halved.
  const std::vector<double> layer = ref::Norm(
      {3, 7, 6, 14}, {1, 2, 3, 4}, {10, 20, 30, 40}, {1, 1, 0.5, 0.5},
      {.dim = 2, .groups = 2, .eps = 0, .center = true, .wide_weight = true, .gate_first = true});
  EXPECT_EQ(layer, std::vector<double>({9, 22, 27, 44}));
  // The gate last: (1 * 1 + 1) * 3.
  EXPECT_EQ(ref::Norm({2}, {1}, {1}, {3}, {.dim = 1, .eps = 0}), std::vector<double>({6}));
}

TEST_P(NormTest, NormsByHand) {
  // The mean square of ones and minus ones is one.
  const Problem p = {.dtype = DType::kFloat32,
                     .rows = 1,
                     .groups = 1,
                     .dim = 8,
                     .gate_act = Activation::kNone,
                     .in_place = false,
                     .padding = 0,
                     .x = {1, -1, 1, -1, 1, -1, 1, -1},
                     .weight = {1, 1, 2, 2, 3, 3, 4, 4},
                     .gate = {1, 1, 1, 1, 1, 0, 10, 10}};
  const double n = 1 / std::sqrt(1 + double{kEps});
  EXPECT_TRUE(
      EachNear(Normed(device(), p), {n, -n, 2 * n, -2 * n, 3 * n, 0, 40 * n, -40 * n}, 1e-6, 1e-7));
}

TEST_P(NormTest, CentersByHand) {
  const Problem p = {.dtype = DType::kFloat32,
                     .rows = 1,
                     .groups = 1,
                     .dim = 8,
                     .gate_act = Activation::kNone,
                     .in_place = false,
                     .padding = 0,
                     .x = {11, 9, 11, 9, 11, 9, 11, 9},
                     .weight = {1, 1, 2, 2, 3, 3, 4, 4},
                     .gate = {},
                     .bias = {0, 1, 2, 3, 4, 5, 6, 7},
                     .center = true};
  const double n = 1 / std::sqrt(1 + double{kEps});
  EXPECT_TRUE(EachNear(Normed(device(), p),
                       {n, 1 - n, 2 + 2 * n, 3 - 2 * n, 4 + 3 * n, 5 - 3 * n, 6 + 4 * n, 7 - 4 * n},
                       1e-6, 1e-6));
}

struct Shape {
  int32_t rows;
  int32_t groups;
  int32_t dim;
  bool weight;
  bool gate;
  Activation gate_act;
  bool in_place;
  int32_t padding;
  bool center = false;
  bool bias = false;
  bool wide_weight = false;
  bool gate_first = false;
};

constexpr Shape kShapes[] = {
    {1, 1, 8, true, false, Activation::kNone, false, 0},
    {5, 1, 24, false, false, Activation::kNone, false, 8},
    {64, 1, 64, true, false, Activation::kNone, true, 0},
    {3, 1, 384, true, false, Activation::kNone, false, 0},
    {33, 1, 2048, true, false, Activation::kNone, true, 16},
    {2, 1, 2056, true, true, Activation::kSilu, false, 0},
    {2, 1, 16384, true, false, Activation::kNone, false, 0},
    {2, 1, 32768, true, false, Activation::kNone, false, 0},
    {7, 3, 128, true, true, Activation::kSilu, false, 0},
    {9, 4, 512, false, true, Activation::kSigmoid, true, 24},
    {1, 16, 16, true, true, Activation::kNone, false, 8},
    {130, 5, 96, true, true, Activation::kGelu, true, 0},
    {2, 2, 40, true, true, Activation::kRelu, false, 0},
    {2, 2, 40, true, true, Activation::kElu1, false, 0},
    {2, 2, 40, true, true, Activation::kSquareRelu, false, 0},
    {2, 2, 40, true, true, Activation::kTanh, false, 0},
    {2, 2, 40, true, true, Activation::kLogSigmoid, false, 0},
    // center, bias, wide_weight, gate_first
    {5, 1, 24, false, false, Activation::kNone, false, 8, true},
    {9, 1, 384, true, false, Activation::kNone, true, 0, true, true},
    {3, 1, 2048, true, false, Activation::kNone, false, 0, false, true},
    {2, 1, 32768, true, false, Activation::kNone, true, 0, true, true},
    {7, 4, 64, true, true, Activation::kSigmoid, true, 8, true, true, true},
    {7, 4, 64, false, true, Activation::kSilu, false, 0, true, true, true},
    {7, 4, 2056, true, true, Activation::kSilu, false, 0, false, false, true},
    {1, 1, 8, true, true, Activation::kSilu, false, 0, false, false, false, true},
    {33, 1, 4096, true, true, Activation::kSilu, true, 0, false, false, false, true},
    {6, 8, 136, true, true, Activation::kSilu, true, 16, false, false, true, true},
    {6, 3, 1032, true, true, Activation::kSigmoid, false, 0, true, true, true, true},
    {4, 2, 48, true, false, Activation::kSilu, false, 0, false, false, true, true},
    // Many norms: on a GPU each is a warp's.
    {2050, 1, 2048, true, false, Activation::kNone, true, 0},
    {513, 4, 512, true, true, Activation::kSilu, false, 8},
    {700, 3, 264, true, true, Activation::kSigmoid, true, 0, true, true, true, true},
    {2048, 1, 1032, false, true, Activation::kSilu, false, 0, true, true},
};

Problem Make(const Shape& shape, DType dtype, uint64_t seed) {
  Random random(seed);
  const int64_t count = int64_t{shape.rows} * shape.groups * shape.dim;
  Problem p = {.dtype = dtype,
               .rows = shape.rows,
               .groups = shape.groups,
               .dim = shape.dim,
               .gate_act = shape.gate_act,
               .in_place = shape.in_place,
               .padding = shape.padding,
               .x = random.Normals(count, 3.0, dtype),
               .weight = {},
               .gate = {},
               .center = shape.center,
               .wide_weight = shape.wide_weight,
               .gate_first = shape.gate_first};
  const int64_t weights = shape.wide_weight ? int64_t{shape.groups} * shape.dim : shape.dim;
  if (shape.weight) p.weight = random.Uniforms(weights, 0.5, 2.0);
  if (shape.bias) p.bias = random.Normals(weights);
  if (shape.gate) p.gate = random.Normals(count, 2.0, dtype);
  return p;
}

TEST_P(NormTest, AgreesWithTheOracle) {
  uint64_t seed = 100;
  for (const Shape& shape : kShapes) {
    for (const DType dtype : ActivationTypes()) {
      const Problem p = Make(shape, dtype, ++seed);
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << p.rows << "x" << p.groups << "x"
                                      << p.dim << " gate_act " << static_cast<int>(p.gate_act));
      EXPECT_TRUE(Near(Normed(device(), p), Want(p),
                       dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
    }
  }
}

TEST_P(NormTest, StaysExactForSmallAndLargeRows) {
  for (const double size : {1e-6, 1e4}) {
    Problem p = Make({3, 1, 256, true, false, Activation::kNone, false, 0}, DType::kFloat32, 7);
    for (float& x : p.x) x *= static_cast<float>(size);
    EXPECT_TRUE(Near(Normed(device(), p), Want(p), kFloat32Tolerance)) << size;
  }
}

TEST_P(NormTest, CentersWithoutCancellation) {
  // The mean square is 1e6 times what is left about the mean.
  Problem p =
      Make({3, 1, 1024, true, false, Activation::kNone, false, 0, true}, DType::kFloat32, 7);
  for (float& x : p.x) x = 1024 + x / 3;
  EXPECT_TRUE(Near(Normed(device(), p), Want(p), {1e-3, 2e-3}));
}

TEST_P(NormTest, ARowDoesNotDependOnItsBatch) {
  constexpr struct {
    int32_t rows;
    int32_t groups;
    int32_t dim;
  } kBatches[] = {{17, 3, 104}, {700, 3, 512}, {2048, 1, 2048}, {1024, 2, 1000}};
  for (const auto& batch : kBatches) {
    for (const bool general : {false, true}) {
      const Problem p = Make({batch.rows, batch.groups, batch.dim, true, true, Activation::kSilu,
                              false, 8, general, general, general, general},
                             ActivationTypes().back(), 8);
      const std::vector<float> all = Normed(device(), p);
      for (const int64_t row : {0, 9, 16}) {
        const size_t cols = size_t{1} * p.groups * p.dim;
        EXPECT_TRUE(SameBits(Normed(device(), RowOf(p, row)), Part(all, row * cols, cols)))
            << row << " of " << batch.dim;
      }
    }
  }
}

TEST(NormThreads, GiveTheSameBits) {
  for (const bool general : {false, true}) {
    const Problem p = Make(
        {67, 2, 1000, true, true, Activation::kSilu, false, 0, general, general, general, general},
        DType::kFloat32, 9);
    EXPECT_TRUE(SameBits(Normed(*CreateCpuDevice(1), p), Normed(*CreateCpuDevice(2), p)));
  }
}

using NormDeathTest = NormTest;
INSTANTIATE_TEST_SUITE_P(Devices, NormDeathTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST_P(NormDeathTest, RefusesWhatBreaksALimit) {
  const Output y(device(), std::vector<float>(32784));
  const NormArgs good = {.dtype = DType::kFloat32,
                         .rows = 1,
                         .dim = 8,
                         .eps = kEps,
                         .x = y.data(),
                         .x_stride = 8,
                         .weight = nullptr,
                         .y = y.data(),
                         .y_stride = 8};
  device().Norm(good);
  for (const int32_t dim : {0, 12, 32776}) {
    NormArgs bad = good;
    bad.dim = dim;
    bad.x_stride = bad.y_stride = 32784;
    EXPECT_DEATH(device().Norm(bad), kCheckFailed) << dim;
  }
  NormArgs bad = good;
  bad.x_stride = 0;
  EXPECT_DEATH(device().Norm(bad), kCheckFailed);
  bad = good;
  bad.eps = 0;
  EXPECT_DEATH(device().Norm(bad), kCheckFailed);
  bad = good;
  bad.gate_act = Activation::kSoftCap;
  EXPECT_DEATH(device().Norm(bad), kCheckFailed);
  bad = good;
  bad.dtype = DType::kFloat16;
  EXPECT_DEATH(device().Norm(bad), kCheckFailed);
}

TEST(NormDeathTest, RefusesBFloat16OnTheCpu) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const Problem p = Make({1, 1, 8, false, false, Activation::kNone, true, 0}, DType::kBFloat16, 10);
  EXPECT_DEATH(Normed(*CreateCpuDevice(1), p), kCheckFailed);
}

}  // namespace
}  // namespace sluice
