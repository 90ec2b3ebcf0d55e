#include "kernels/rotary.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/rotary_ref.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {1e-6, 3e-6};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8
constexpr int32_t kLastPosition = std::numeric_limits<int32_t>::max();

struct Problem {
  DType dtype;
  int32_t heads;
  int32_t dim;
  double base;
  int32_t padding;                 // between rows; a multiple of 8
  std::vector<int32_t> positions;  // [rows]
  std::vector<float> x;            // [rows, heads * dim]
};

std::vector<float> Rotated(Device& device, const Problem& p) {
  const int64_t width = int64_t{p.heads} * p.dim;
  const int64_t stride = width + p.padding;
  const Input positions(device, p.positions);
  const Output x(device, Spread(p.x, width, stride), p.dtype);
  device.Rotate({.dtype = p.dtype,
                 .rows = static_cast<int32_t>(p.positions.size()),
                 .heads = p.heads,
                 .dim = p.dim,
                 .base = p.base,
                 .positions = positions.as<int32_t>(),
                 .x = x.data(),
                 .stride = stride});
  const std::vector<float> written = x.Read(p.dtype);
  EXPECT_TRUE(AllPoison(Columns(written, width, p.padding, stride))) << "written between rows";
  return Columns(written, 0, width, stride);
}

Problem Make(DType dtype, int32_t heads, int32_t dim, std::vector<int32_t> positions,
             uint64_t seed) {
  Random random(seed);
  const auto rows = static_cast<int64_t>(positions.size());
  return {.dtype = dtype,
          .heads = heads,
          .dim = dim,
          .base = 10000,
          .padding = heads % 2 == 0 ? 16 : 0,
          .positions = std::move(positions),
          .x = random.Normals(rows * heads * dim, 1.0, dtype)};
}

class RotaryTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, RotaryTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(RotaryRef, RotatesByHand) {
  // The frequencies of base 4 at K = 4 are 1 and 1/2.
  const std::vector<double> y = ref::Rotate({1, 0, 0, 2}, {3}, 4, 4);
  EXPECT_DOUBLE_EQ(y[0], std::cos(3.0));
  EXPECT_DOUBLE_EQ(y[1], -2 * std::sin(1.5));
  EXPECT_DOUBLE_EQ(y[2], std::sin(3.0));
  EXPECT_DOUBLE_EQ(y[3], 2 * std::cos(1.5));
}

TEST(RotaryRef, HasTheAnglesOfFla) {
  // torch 2: torch.outer(t, 1 / (10000 ** (torch.arange(0, 96, 2, dtype=torch.float32) / 96))) at
  // t = 1, 4099 and 131071, pairs 1 and 17.
  EXPECT_EQ(ref::RotaryAngle(1, 1, 96, 10000), 0.825404167175293);
  EXPECT_EQ(ref::RotaryAngle(4099, 17, 96, 10000), 157.0403594970703);
  EXPECT_EQ(ref::RotaryAngle(131071, 1, 96, 10000), 108186.546875);
}

TEST_P(RotaryTest, LeavesPositionZeroAlone) {
  const Problem p = Make(DType::kFloat32, 3, 32, {0, 0}, 900);
  EXPECT_EQ(Rotated(device(), p), p.x);
}

TEST_P(RotaryTest, AgreesWithTheOracle) {
  const std::vector<int32_t> positions = {0,     1,     2,      17,     1023,    4096,   65535,
                                          65537, 99999, 131071, 131072, 1 << 24, 3 << 24};
  uint64_t seed = 910;
  for (const DType dtype : ActivationTypes()) {
    for (const int32_t dim : {16, 48, 64, 96, 128, 512}) {
      for (const int32_t heads : {1, 4, 7}) {
        SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << heads << "x" << dim);
        Problem p = Make(dtype, heads, dim, positions, ++seed);
        if (heads == 7) p.base = 500000;
        EXPECT_TRUE(Near(Rotated(device(), p), ref::Rotate(p.x, p.positions, p.dim, p.base),
                         dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
      }
    }
  }
}

TEST_P(RotaryTest, StaysExactUpToTheLastPosition) {
  const Problem p = Make(DType::kFloat32, 2, 128,
                         {kLastPosition, kLastPosition - 1, 2000000011, 1 << 30, 1000000007}, 930);
  EXPECT_TRUE(
      Near(Rotated(device(), p), ref::Rotate(p.x, p.positions, p.dim, p.base), kFloat32Tolerance));
}

TEST_P(RotaryTest, ProductsDependOnTheDistanceAlone) {
  // q at 9 and k at 4, then both a billion tokens on.
  const auto product = [&](int32_t offset) {
    Problem p = Make(DType::kFloat32, 1, 64, {offset + 9, offset + 4}, 940);
    const std::vector<float> y = Rotated(device(), p);
    double sum = 0;
    for (size_t c = 0; c < 64; ++c) sum += double{y[c]} * y[64 + c];
    return sum;
  };
  EXPECT_NEAR(product(0), product(1000000000), 1e-4);
}

TEST_P(RotaryTest, ARowDoesNotDependOnItsBatch) {
  const Problem p = Make(ActivationTypes().back(), 3, 48, {5, 0, 131073, 77, 5}, 950);
  const std::vector<float> all = Rotated(device(), p);
  for (const size_t row : {0, 2, 4}) {
    Problem one = p;
    one.positions = {p.positions[row]};
    one.x = Part(p.x, row * 144, 144);
    EXPECT_TRUE(SameBits(Rotated(device(), one), Part(all, row * 144, 144))) << row;
  }
}

TEST(RotaryThreads, GiveTheSameBits) {
  Random random(951);
  const Problem p = Make(DType::kFloat32, 5, 128, random.Integers(97, 200000), 952);
  EXPECT_TRUE(SameBits(Rotated(*CreateCpuDevice(1), p), Rotated(*CreateCpuDevice(2), p)));
}

using RotaryDeathTest = RotaryTest;
INSTANTIATE_TEST_SUITE_P(Devices, RotaryDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(RotaryDeathTest, RefusesWhatBreaksALimit) {
  for (const int32_t dim : {8, 24, 528}) {
    EXPECT_DEATH(Rotated(device(), Make(DType::kFloat32, 1, dim, {1}, 960)), kCheckFailed) << dim;
  }
  Problem baseless = Make(DType::kFloat32, 1, 16, {1}, 961);
  baseless.base = 0;
  EXPECT_DEATH(Rotated(device(), baseless), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Rotated(device(), Make(DType::kFloat32, 1, 16, {-1}, 962)), kCheckFailed);
    EXPECT_DEATH(Rotated(device(), Make(DType::kBFloat16, 1, 16, {1}, 963)), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
