#include "kernels/activation.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/activation_ref.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr Activation kActivations[] = {
    Activation::kNone, Activation::kRelu,       Activation::kSilu, Activation::kSigmoid,
    Activation::kElu1, Activation::kSquareRelu, Activation::kGelu};

struct Problem {
  DType dtype;
  Activation act;
  int64_t cols;
  int64_t stride;
  std::vector<float> x;  // [rows, cols]
};

std::vector<float> Activated(Device& device, const Problem& p) {
  const Output x(device, Spread(p.x, p.cols, p.stride), p.dtype);
  device.Activate({.dtype = p.dtype,
                   .act = p.act,
                   .rows = static_cast<int32_t>(static_cast<int64_t>(p.x.size()) / p.cols),
                   .cols = static_cast<int32_t>(p.cols),
                   .x = x.data(),
                   .stride = p.stride});
  const std::vector<float> written = x.Read(p.dtype);
  EXPECT_TRUE(AllPoison(Columns(written, p.cols, p.stride - p.cols, p.stride)))
      << "written between rows";
  return Columns(written, 0, p.cols, p.stride);
}

class ActivationTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, ActivationTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(ActivationRef, KnownValues) {
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kSilu, 0.0), 0.0);
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kSigmoid, std::log(3.0)), 0.75);
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kElu1, 2.0), 3.0);
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kElu1, -1.0), std::exp(-1.0));
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kSquareRelu, -3.0), 0.0);
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kSquareRelu, 3.0), 9.0);
  EXPECT_NEAR(ref::Activate(Activation::kGelu, 1.0), 0.8411919906, 1e-9);
}

TEST_P(ActivationTest, MapsByHand) {
  const std::vector<float> x = {-2, -1, 0, 1, 2, 3, -30, 30};
  EXPECT_EQ(Activated(device(), {DType::kFloat32, Activation::kNone, 8, 8, x}), x);
  EXPECT_EQ(Activated(device(), {DType::kFloat32, Activation::kRelu, 8, 8, x}),
            std::vector<float>({0, 0, 0, 1, 2, 3, 0, 30}));
  EXPECT_EQ(Activated(device(), {DType::kFloat32, Activation::kSquareRelu, 8, 8, x}),
            std::vector<float>({0, 0, 0, 1, 4, 9, 0, 900}));
  EXPECT_TRUE(EachNear(Activated(device(), {DType::kFloat32, Activation::kElu1, 8, 8, x}),
                       {std::exp(-2.0), std::exp(-1.0), 1, 2, 3, 4, std::exp(-30.0), 31}, 1e-5, 0));
}

TEST_P(ActivationTest, AgreesWithTheOracle) {
  Random random(200);
  for (const Activation act : kActivations) {
    for (const DType dtype : ActivationTypes()) {
      for (const int64_t cols : {8, 24, 384, 1032}) {
        SCOPED_TRACE(testing::Message()
                     << DTypeName(dtype) << " act " << static_cast<int>(act) << " cols " << cols);
        const Problem p = {dtype, act, cols, cols + (cols == 24 ? 16 : 0),
                           random.Normals(19 * cols, 4.0, dtype)};
        const bool exact = dtype == DType::kFloat32;
        EXPECT_TRUE(EachNear(Activated(device(), p), ref::Activate(act, p.x), exact ? 1e-5 : 4e-3,
                             exact ? 1e-6 : 1e-4));
      }
    }
  }
}

TEST_P(ActivationTest, StaysFiniteFarOut) {
  const std::vector<float> x = {-1e4, -1000, -100, -90, 90, 100, 1000, 1e4};
  for (const Activation act : kActivations) {
    EXPECT_TRUE(EachNear(Activated(device(), {DType::kFloat32, act, 8, 8, x}),
                         ref::Activate(act, x), 1e-5, 1e-30))
        << static_cast<int>(act);
  }
}

TEST_P(ActivationTest, ARowDoesNotDependOnItsBatch) {
  Random random(201);
  const DType dtype = ActivationTypes().back();
  const Problem p = {dtype, Activation::kSilu, 40, 48, random.Normals(21 * 40, 2.0, dtype)};
  const std::vector<float> all = Activated(device(), p);
  for (const size_t row : {0, 7, 20}) {
    Problem one = p;
    one.x = Part(p.x, row * 40, 40);
    EXPECT_TRUE(SameBits(Activated(device(), one), Part(all, row * 40, 40))) << row;
  }
}

TEST(ActivationThreads, GiveTheSameBits) {
  Random random(202);
  const Problem p = {DType::kFloat32, Activation::kGelu, 1000, 1000, random.Normals(101 * 1000)};
  EXPECT_TRUE(SameBits(Activated(*CreateCpuDevice(1), p), Activated(*CreateCpuDevice(2), p)));
}

using ActivationDeathTest = ActivationTest;
INSTANTIATE_TEST_SUITE_P(Devices, ActivationDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(ActivationDeathTest, RefusesWhatBreaksALimit) {
  const std::vector<float> x(24);
  EXPECT_DEATH(Activated(device(), {DType::kFloat32, Activation::kRelu, 12, 16, x}), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Activated(device(), {DType::kBFloat16, Activation::kRelu, 8, 8, x}), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
