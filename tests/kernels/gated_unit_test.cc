#include "kernels/gated_unit.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/gated_unit_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr Tolerance kFloat32Tolerance = {1e-6, 5e-6};
constexpr Tolerance kBFloat16Tolerance = {4e-3, 5e-3};  // rounding alone reaches 2^-8

struct Problem {
  DType dtype;
  int32_t dim;
  std::vector<float> gate;      // [rows, dim]
  std::vector<float> up;        // the same, or empty
  std::vector<float> old = {};  // the same, or empty: what is added to
  Activation act = Activation::kSilu;
  int32_t padding = 0;  // between rows of each; a multiple of 8
};

std::vector<float> Multiplied(Device& device, const Problem& p) {
  const int64_t stride = int64_t{p.dim} + p.padding;
  const Input gate(device, Spread(p.gate, p.dim, stride), p.dtype);
  const Input up(device, Spread(p.up, p.dim, stride + 8), p.dtype);
  const bool accumulate = !p.old.empty();
  const std::vector<float> nothing(p.gate.size(), kPoisonNumber);
  const Output out(device, Spread(accumulate ? p.old : nothing, p.dim, stride), p.dtype);
  device.GatedUnit({.dtype = p.dtype,
                    .rows = static_cast<int32_t>(p.gate.size() / static_cast<size_t>(p.dim)),
                    .dim = p.dim,
                    .act = p.act,
                    .gate = gate.data(),
                    .gate_stride = stride,
                    .up = up.data(),
                    .up_stride = stride + 8,
                    .out = out.data(),
                    .out_stride = stride,
                    .accumulate = accumulate});
  const std::vector<float> written = out.Read(p.dtype);
  EXPECT_TRUE(AllPoison(Columns(written, p.dim, p.padding, stride))) << "written between rows";
  return Columns(written, 0, p.dim, stride);
}

std::vector<double> Want(const Problem& p) { return ref::GatedUnit(p.act, p.gate, p.up, p.old); }

class GatedUnitTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, GatedUnitTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(GatedUnitRef, MultipliesByHand) {
  EXPECT_EQ(ref::GatedUnit(Activation::kRelu, {-1, 3}, {5, 7}, {}), std::vector<double>({0, 21}));
  EXPECT_EQ(ref::GatedUnit(Activation::kRelu, {-1, 3}, {}, {2, 4}), std::vector<double>({2, 7}));
}

TEST_P(GatedUnitTest, MultipliesByHand) {
  // silu(0) = 0; silu(log 3) = 0.75 log 3, log 3 = 1.0986...
  const float log3 = 1.0986122886681098F;
  EXPECT_TRUE(EachNear(Multiplied(device(), {DType::kFloat32,
                                             8,  //
                                             {0, log3, log3, -log3, 0, 0, 0, 40},
                                             {5, 1, 2, 4, -1, 7, 0, 0.5}}),
                       {0, 0.75 * log3, 1.5 * log3, -log3, 0, 0, 0, 20}, 1e-6, 0));
}

TEST_P(GatedUnitTest, AgreesWithTheOracle) {
  Random random(300);
  for (const DType dtype : ActivationTypes()) {
    for (const int32_t dim : {8, 24, 1024, 1032, 5632}) {
      for (const int32_t rows : {1, 3, 65}) {
        SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << rows << "x" << dim);
        Problem p = {dtype, dim, random.Normals(int64_t{rows} * dim, 3.0, dtype),
                     random.Normals(int64_t{rows} * dim, 3.0, dtype)};
        p.padding = rows == 3 ? 16 : 0;
        EXPECT_TRUE(Near(Multiplied(device(), p), Want(p),
                         dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
      }
    }
  }
}

TEST_P(GatedUnitTest, TakesEveryActivationWithAndWithoutUpAndOld) {
  Random random(303);
  constexpr int64_t kCount = int64_t{5} * 72;
  for (const Activation act : {Activation::kNone, Activation::kRelu, Activation::kSilu,
                               Activation::kSigmoid, Activation::kElu1, Activation::kSquareRelu,
                               Activation::kGelu, Activation::kTanh, Activation::kLogSigmoid}) {
    for (const int variant : {0, 1, 2, 3}) {
      const DType dtype = ActivationTypes().back();
      SCOPED_TRACE(testing::Message() << "act " << static_cast<int>(act) << " variant " << variant);
      Problem p = {dtype, 72, random.Normals(kCount, 2.0, dtype), {}};
      if (variant % 2 == 1) p.up = random.Normals(kCount, 1.0, dtype);
      if (variant >= 2) p.old = random.Normals(kCount, 1.0, dtype);
      p.act = act;
      p.padding = 8;
      EXPECT_TRUE(Near(Multiplied(device(), p), Want(p),
                       dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
    }
  }
}

TEST_P(GatedUnitTest, MayOverwriteItsGateOrUp) {
  Random random(304);
  const std::vector<float> gate = random.Normals(80);
  const std::vector<float> up = random.Normals(80);
  const std::vector<double> want = ref::GatedUnit(Activation::kSilu, gate, up, {});
  for (const bool over_gate : {false, true}) {
    const Output gate_out(device(), gate);
    const Output up_out(device(), up);
    const Output& out = over_gate ? gate_out : up_out;
    device().GatedUnit({.dtype = DType::kFloat32,
                        .rows = 2,
                        .dim = 40,
                        .gate = gate_out.data(),
                        .gate_stride = 40,
                        .up = up_out.data(),
                        .up_stride = 40,
                        .out = out.data(),
                        .out_stride = 40});
    EXPECT_TRUE(Near(out.Read<float>(), want, kFloat32Tolerance));
  }
}

TEST_P(GatedUnitTest, TakesOneRowOfUpForAll) {
  Random random(305);
  constexpr int32_t kRows = 5;
  for (const DType dtype : ActivationTypes()) {
    const std::vector<float> gate = random.Normals(kRows * 72, 1.0, dtype);
    const std::vector<float> old = random.Normals(kRows * 72, 1.0, dtype);
    const std::vector<float> weights = random.Normals(72, 1.0, dtype);
    std::vector<float> up;
    for (int32_t row = 0; row < kRows; ++row) up.insert(up.end(), weights.begin(), weights.end());
    const Input gate_in(device(), gate, dtype);
    const Input weights_in(device(), weights, dtype);
    const Output out(device(), old, dtype);
    device().GatedUnit({.dtype = dtype,
                        .rows = kRows,
                        .dim = 72,
                        .act = Activation::kNone,
                        .gate = gate_in.data(),
                        .gate_stride = 72,
                        .up = weights_in.data(),
                        .up_stride = 0,
                        .out = out.data(),
                        .out_stride = 72,
                        .accumulate = true});
    EXPECT_TRUE(Near(out.Read(dtype), ref::GatedUnit(Activation::kNone, gate, up, old),
                     dtype == DType::kFloat32 ? kFloat32Tolerance : kBFloat16Tolerance));
  }
}

TEST_P(GatedUnitTest, StaysFiniteFarOut) {
  const Problem p = {DType::kFloat32,
                     8,  //
                     {-1e4, -1000, -100, -90, 90, 100, 1000, 1e4},
                     {1, 1, 1, 1, 1, 1, 1, 1}};
  EXPECT_TRUE(EachNear(Multiplied(device(), p), Want(p), 1e-5, 1e-30));
}

TEST_P(GatedUnitTest, ARowDoesNotDependOnItsBatch) {
  Random random(301);
  const DType dtype = ActivationTypes().back();
  const Problem p = {dtype, 56, random.Normals(33 * 56, 2.0, dtype),
                     random.Normals(33 * 56, 2.0, dtype)};
  const std::vector<float> all = Multiplied(device(), p);
  for (const size_t row : {0, 13, 32}) {
    const Problem one = {dtype, 56, Part(p.gate, row * 56, 56), Part(p.up, row * 56, 56)};
    EXPECT_TRUE(SameBits(Multiplied(device(), one), Part(all, row * 56, 56))) << row;
  }
}

TEST(GatedUnitThreads, GiveTheSameBits) {
  Random random(302);
  const Problem p = {DType::kFloat32, 1000, random.Normals(67 * 1000), random.Normals(67 * 1000)};
  EXPECT_TRUE(SameBits(Multiplied(*CreateCpuDevice(1), p), Multiplied(*CreateCpuDevice(2), p)));
}

using GatedUnitDeathTest = GatedUnitTest;
INSTANTIATE_TEST_SUITE_P(Devices, GatedUnitDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(GatedUnitDeathTest, RefusesWhatBreaksALimit) {
  const std::vector<float> x(24);
  EXPECT_DEATH(Multiplied(device(), {DType::kFloat32, 12, x, x}), kCheckFailed);
  Problem capped = {DType::kFloat32, 8, x, x};
  capped.act = Activation::kSoftCap;
  EXPECT_DEATH(Multiplied(device(), capped), kCheckFailed);
  if (!is_cuda()) {
    EXPECT_DEATH(Multiplied(device(), {DType::kBFloat16, 8, x, x}), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
