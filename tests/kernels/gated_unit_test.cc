#include "kernels/gated_unit.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_unit_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {1e-6, 5e-6};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

std::vector<float> Multiplied(Device& device, DType dtype, int32_t dim,
                              const std::vector<float>& values) {
  const Input x(device, values, dtype);
  const Output out(device, static_cast<int64_t>(values.size()) / 2 * DTypeBytes(dtype));
  device.GatedUnit({.dtype = dtype,
                    .rows = static_cast<int32_t>(values.size() / (size_t{2} * dim)),
                    .dim = dim,
                    .x = x.data(),
                    .out = out.data()});
  return out.Read(dtype);
}

class GatedUnitTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, GatedUnitTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST_P(GatedUnitTest, MultipliesByHand) {
  // silu(0) = 0; silu(log 3) = 0.75 log 3, log 3 = 1.0986...
  const float log3 = 1.0986122886681098F;
  EXPECT_TRUE(EachNear(Multiplied(device(), DType::kFloat32, 8,
                                  {0, log3, log3, -log3, 0, 0, 0, 40,  //
                                   5, 1, 2, 4, -1, 7, 0, 0.5}),
                       {0, 0.75 * log3, 1.5 * log3, -log3, 0, 0, 0, 20}, 1e-6, 0));
}

TEST_P(GatedUnitTest, AgreesWithTheOracle) {
  Random random(300);
  for (const DType dtype : ActivationTypes()) {
    for (const int32_t dim : {8, 24, 1024, 1032, 5632}) {
      for (const int32_t rows : {1, 3, 65}) {
        SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << rows << "x" << dim);
        const std::vector<float> x = random.Normals(int64_t{2} * rows * dim, 3.0, dtype);
        EXPECT_TRUE(Near(Multiplied(device(), dtype, dim, x), ref::GatedUnit(x, dim),
                         dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
      }
    }
  }
}

TEST_P(GatedUnitTest, StaysFiniteFarOut) {
  const std::vector<float> x = {-1e4, -1000, -100, -90, 90, 100, 1000, 1e4, 1, 1, 1, 1, 1, 1, 1, 1};
  EXPECT_TRUE(
      EachNear(Multiplied(device(), DType::kFloat32, 8, x), ref::GatedUnit(x, 8), 1e-5, 1e-30));
}

TEST_P(GatedUnitTest, ARowDoesNotDependOnItsBatch) {
  Random random(301);
  const DType dtype = ActivationTypes().back();
  const std::vector<float> x = random.Normals(33 * 2 * 56, 2.0, dtype);
  const std::vector<float> all = Multiplied(device(), dtype, 56, x);
  for (const size_t row : {0, 13, 32}) {
    EXPECT_TRUE(
        SameBits(Multiplied(device(), dtype, 56, Part(x, row * 112, 112)), Part(all, row * 56, 56)))
        << row;
  }
}

TEST(GatedUnitThreads, GiveTheSameBits) {
  Random random(302);
  const std::vector<float> x = random.Normals(67 * 2 * 1000);
  EXPECT_TRUE(SameBits(Multiplied(*CreateCpuDevice(1), DType::kFloat32, 1000, x),
                       Multiplied(*CreateCpuDevice(2), DType::kFloat32, 1000, x)));
}

using GatedUnitDeathTest = GatedUnitTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatedUnitDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatedUnitDeathTest, RefusesWhatBreaksALimit) {
  const std::vector<float> x(48);
  EXPECT_DEATH(Multiplied(device(), DType::kFloat32, 12, x), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Multiplied(device(), DType::kBFloat16, 8, x), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
