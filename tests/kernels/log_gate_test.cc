#include "kernels/log_gate.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/log_gate_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr float kNoClamp = -std::numeric_limits<float>::infinity();

struct Problem {
  DType dtype;
  int32_t rank;
  float normalizer;
  float clamp_min;
  int64_t padding;            // between rows of x
  std::vector<float> x;       // [rows, rank]
  std::vector<float> weight;  // [dim, rank]
  std::vector<float> bias;    // [dim]
};

std::vector<float> Gated(Device& device, const Problem& p) {
  const Input x(device, Spread(p.x, p.rank, p.rank + p.padding), p.dtype);
  const Input weight(device, p.weight);
  const Input bias(device, p.bias);
  const auto rows = static_cast<int32_t>(p.x.size() / p.rank);
  const auto dim = static_cast<int32_t>(p.bias.size());
  const Output log_decay(device, int64_t{rows} * dim * 4);
  device.LogGate({.dtype = p.dtype,
                  .rows = rows,
                  .rank = p.rank,
                  .dim = dim,
                  .normalizer = p.normalizer,
                  .clamp_min = p.clamp_min,
                  .x = x.data(),
                  .x_stride = p.rank + p.padding,
                  .weight = weight.as<float>(),
                  .bias = bias.as<float>(),
                  .log_decay = log_decay.as<float>()});
  return log_decay.Read<float>();
}

std::vector<double> Want(const Problem& p) {
  return ref::LogGate(p.x, p.weight, p.bias, p.normalizer, p.clamp_min);
}

Problem Make(DType dtype, int32_t rows, int32_t rank, int32_t dim, uint64_t seed) {
  Random random(seed);
  return {dtype,
          rank,
          16,
          kNoClamp,
          0,
          random.Normals(int64_t{rows} * rank, 1.0, dtype),
          random.Normals(int64_t{dim} * rank, 0.5),
          random.Normals(dim, 3.0)};
}

class LogGateTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, LogGateTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(LogGateRef, GatesByHand) {
  // log(sigmoid(0)) = -log 2; log(sigmoid(-50)) = -50 to within exp(-50).
  const std::vector<double> g = ref::LogGate({1, 2}, {0, 0, -30, -10}, {0, 0}, 2, -20);
  EXPECT_DOUBLE_EQ(g[0], -std::log(2.0) / 2);
  EXPECT_DOUBLE_EQ(g[1], -20);
}

TEST_P(LogGateTest, GatesByHand) {
  // Channel 0: the sum is 1 + 3 - 4 = 0. The others take their bias.
  Problem p = {DType::kFloat32,
               8,
               16,
               -3,
               0,
               {1, 1, 0, 0, 0, 0, 0, 2},
               std::vector<float>(64),
               {-4, -100, 0, 100, 20, -16, -48, -47}};
  p.weight[0] = 1;
  p.weight[1] = 3;
  EXPECT_TRUE(EachNear(Gated(device(), p),
                       {-std::log(2.0) / 16, -3, -std::log(2.0) / 16, 0, -std::exp(-20.0) / 16,
                        -1.00000000703, -3, -47.0 / 16},
                       1e-5, 1e-30));
}

TEST_P(LogGateTest, AgreesWithTheOracle) {
  constexpr struct {
    int32_t rows;
    int32_t rank;
    int32_t dim;
    float normalizer;
    float clamp_min;
    int64_t padding;
  } kShapes[] = {{1, 16, 8, 16, kNoClamp, 0},    {1, 16, 1024, 16, kNoClamp, 0},
                 {5, 8, 24, 1, kNoClamp, 8},     {63, 16, 192, 16, kNoClamp, 0},
                 {64, 64, 48, 16, -0.125, 0},    {65, 24, 200, 4, -1, 40},
                 {300, 16, 384, 16, kNoClamp, 0}};
  uint64_t seed = 400;
  for (const auto& shape : kShapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << shape.rows << "x" << shape.rank
                                      << "x" << shape.dim);
      Problem p = Make(dtype, shape.rows, shape.rank, shape.dim, ++seed);
      p.normalizer = shape.normalizer;
      p.clamp_min = shape.clamp_min;
      p.padding = shape.padding;
      // Slow decays have to be right relative to themselves.
      EXPECT_TRUE(EachNear(Gated(device(), p), Want(p), 2e-5, 0));
    }
  }
}

TEST_P(LogGateTest, IsNeverPositive) {
  Problem p = Make(DType::kFloat32, 32, 16, 64, 410);
  for (float& bias : p.bias) bias *= 30;
  for (const float g : Gated(device(), p)) EXPECT_LE(g, 0.0F);
}

TEST_P(LogGateTest, ARowDoesNotDependOnItsBatch) {
  const Problem p = Make(ActivationTypes().back(), 71, 16, 120, 411);
  const std::vector<float> all = Gated(device(), p);
  for (const size_t row : {0, 31, 70}) {
    Problem one = p;
    one.x = Part(p.x, row * 16, 16);
    EXPECT_TRUE(SameBits(Gated(device(), one), Part(all, row * 120, 120))) << row;
  }
}

TEST(LogGateThreads, GiveTheSameBits) {
  const Problem p = Make(DType::kFloat32, 67, 16, 1000, 412);
  EXPECT_TRUE(SameBits(Gated(*CreateCpuDevice(1), p), Gated(*CreateCpuDevice(2), p)));
}

using LogGateDeathTest = LogGateTest;
INSTANTIATE_TEST_SUITE_P(Devices, LogGateDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(LogGateDeathTest, RefusesWhatBreaksALimit) {
  for (const int32_t rank : {4, 12, 72}) {
    EXPECT_DEATH(Gated(device(), Make(DType::kFloat32, 1, rank, 8, 413)), kCheckFailed) << rank;
  }
  EXPECT_DEATH(Gated(device(), Make(DType::kFloat32, 1, 16, 12, 414)), kCheckFailed);
  Problem p = Make(DType::kFloat32, 1, 16, 8, 415);
  p.normalizer = 0;
  EXPECT_DEATH(Gated(device(), p), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Gated(device(), Make(DType::kBFloat16, 1, 16, 8, 416)), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
