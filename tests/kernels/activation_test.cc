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
    Activation::kNone,       Activation::kRelu,       Activation::kSilu, Activation::kSigmoid,
    Activation::kElu1,       Activation::kSquareRelu, Activation::kGelu, Activation::kTanh,
    Activation::kLogSigmoid, Activation::kSoftCap};

struct Problem {
  DType dtype;
  Activation act;
  int64_t cols;
  int64_t stride;
  std::vector<float> x;          // [rows, cols]
  std::vector<float> bias = {};  // [cols] or empty
  float cap = 30;
};

std::vector<float> Activated(Device& device, const Problem& p) {
  const Output x(device, Spread(p.x, p.cols, p.stride), p.dtype);
  const Input bias(device, p.bias);
  device.Activate({.dtype = p.dtype,
                   .act = p.act,
                   .rows = static_cast<int32_t>(static_cast<int64_t>(p.x.size()) / p.cols),
                   .cols = static_cast<int32_t>(p.cols),
                   .x = x.data(),
                   .stride = p.stride,
                   .bias = bias.as<float>(),
                   .cap = p.cap});
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
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kTanh, std::log(3.0)), 0.8);
  EXPECT_NEAR(ref::Activate(Activation::kLogSigmoid, -std::log(3.0)), std::log(0.25), 1e-15);
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kLogSigmoid, -1000.0), -1000);
  EXPECT_DOUBLE_EQ(ref::Activate(Activation::kSoftCap, 5 * std::log(3.0), 5), 4);
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
        Problem p = {dtype, act, cols, cols + (cols == 24 ? 16 : 0),
                     random.Normals(19 * cols, 4.0, dtype)};
        if (cols >= 384) p.bias = random.Normals(cols);
        if (cols == 1032) p.cap = 3;
        const bool exact = dtype == DType::kFloat32;
        EXPECT_TRUE(EachNear(Activated(device(), p), ref::Activate(act, p.x, p.bias, p.cap),
                             exact ? 1e-5 : 4e-3, exact ? 1e-6 : 1e-4));
      }
    }
  }
}

TEST_P(ActivationTest, TakesContiguousRowsOfAnyLength) {
  Random random(203);
  for (const Activation act : {Activation::kSoftCap, Activation::kNone, Activation::kSilu}) {
    for (const int64_t cols : {1, 7, 9, 4099}) {
      for (const bool bias : {false, true}) {
        SCOPED_TRACE(testing::Message() << "act " << static_cast<int>(act) << " cols " << cols);
        Problem p = {DType::kFloat32, act, cols, cols, random.Normals(5 * cols, 20.0)};
        if (bias) p.bias = random.Normals(cols);
        EXPECT_TRUE(
            EachNear(Activated(device(), p), ref::Activate(act, p.x, p.bias, p.cap), 1e-5, 1e-6));
      }
    }
  }
}

TEST_P(ActivationTest, StaysFiniteFarOut) {
  const std::vector<float> x = {-1e4, -1000, -100, -90, 90, 100, 1000, 1e4};
  for (const Activation act : kActivations) {
    EXPECT_TRUE(EachNear(Activated(device(), {DType::kFloat32, act, 8, 8, x}),
                         ref::Activate(act, x, {}, 30), 1e-5, 1e-30))
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
  EXPECT_DEATH(Activated(device(), {DType::kBFloat16, Activation::kRelu, 12, 12, x}), kCheckFailed);
  Problem uncapped = {DType::kFloat32, Activation::kSoftCap, 8, 8, x};
  uncapped.cap = 0;
  EXPECT_DEATH(Activated(device(), uncapped), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Activated(device(), {DType::kBFloat16, Activation::kRelu, 8, 8, x}), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
