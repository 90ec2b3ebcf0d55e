#include "kernels/decay.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/decay_ref.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr DecayFormula kFormulas[] = {DecayFormula::kLogSigmoid, DecayFormula::kLowerBound,
                                      DecayFormula::kExponential, DecayFormula::kSoftplus};

struct Problem {
  DecayArgs args;              // without its arrays and strides
  int64_t padding;             // between rows of x and of the complement
  std::vector<float> x;        // [rows, dim]
  std::vector<float> bias;     // [dim] or empty
  std::vector<float> channel;  // [dim] or empty: lower_bound or a_log
};

struct Result {
  std::vector<float> log_decay;
  std::vector<float> complement;   // empty but of kLowerBound
  std::vector<float> input_scale;  // empty but of kLogSigmoid and kSoftplus
};

Result Decayed(Device& device, const Problem& p) {
  const int32_t dim = p.args.dim;
  const int64_t stride = dim + p.padding;
  const bool has_complement = p.args.formula == DecayFormula::kLowerBound;
  const bool has_scale =
      p.args.formula == DecayFormula::kLogSigmoid || p.args.formula == DecayFormula::kSoftplus;
  const Input x(device, Spread(p.x, dim, stride), p.args.dtype);
  const Input bias(device, p.bias);
  const Input channel(device, p.channel);
  const auto count = static_cast<int64_t>(p.x.size());
  const Output log_decay(device, count * 4);
  const Output complement(device,
                          StridedSize(p.args.rows, dim, stride + 8) * DTypeBytes(p.args.dtype));
  const Output input_scale(device, count * 4);
  DecayArgs args = p.args;
  args.x = x.data();
  args.x_stride = stride;
  args.bias = bias.as<float>();
  args.lower_bound = has_complement ? channel.as<float>() : nullptr;
  args.a_log = args.formula == DecayFormula::kSoftplus ? channel.as<float>() : nullptr;
  args.log_decay = log_decay.as<float>();
  args.complement = has_complement ? complement.data() : nullptr;
  args.complement_stride = has_complement ? stride + 8 : 0;
  args.input_scale = has_scale ? input_scale.as<float>() : nullptr;
  device.Decay(args);
  Result result = {log_decay.Read<float>(), {}, {}};
  if (has_complement) {
    const std::vector<float> written = complement.Read(p.args.dtype);
    EXPECT_TRUE(AllPoison(Columns(written, dim, p.padding + 8, stride + 8)))
        << "written between rows";
    result.complement = Columns(written, 0, dim, stride + 8);
  }
  if (has_scale) result.input_scale = input_scale.Read<float>();
  return result;
}

Problem Make(DecayFormula formula, DType dtype, int32_t rows, int32_t dim, uint64_t seed) {
  Random random(seed);
  Problem p = {.args = {.dtype = dtype, .formula = formula, .rows = rows, .dim = dim},
               .padding = 0,
               .x = random.Normals(int64_t{rows} * dim, 3.0, dtype),
               .bias = random.Normals(dim, 3.0),
               .channel = {}};
  if (formula == DecayFormula::kLowerBound) p.channel = random.Uniforms(dim, 0, 0.999);
  if (formula == DecayFormula::kSoftplus) p.channel = random.Uniforms(dim, -2, 3);
  return p;
}

struct Want {
  std::vector<double> log_decay;
  std::vector<double> complement;
  std::vector<double> input_scale;
};

Want WantOf(const Problem& p) {
  const std::vector<float> zeros(p.args.dim);
  Want want;
  for (const ref::DecayGate& gate : ref::Decay(p.args, p.x, p.bias.empty() ? zeros : p.bias,
                                               p.channel.empty() ? zeros : p.channel)) {
    want.log_decay.push_back(gate.log_decay);
    want.complement.push_back(gate.complement);
    want.input_scale.push_back(gate.input_scale);
  }
  return want;
}

// Slow decays have to be right relative to themselves, so every bound is relative.
void ExpectAgrees(Device& device, const Problem& p) {
  const Result got = Decayed(device, p);
  const Want want = WantOf(p);
  EXPECT_TRUE(EachNear(got.log_decay, want.log_decay, 2e-5, 1e-36));
  if (!got.complement.empty()) {
    const bool exact = p.args.dtype == DType::kFloat32;
    EXPECT_TRUE(EachNear(got.complement, want.complement, exact ? 2e-5 : 4e-3, 1e-36));
  }
  if (!got.input_scale.empty()) {
    EXPECT_TRUE(EachNear(got.input_scale, want.input_scale, 2e-5, 1e-36));
  }
}

class DecayTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, DecayTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

TEST(DecayRef, DecaysByHand) {
  DecayArgs args = {.formula = DecayFormula::kLogSigmoid, .normalizer = 2, .clamp_min = -20};
  EXPECT_DOUBLE_EQ(ref::Decay(args, 0, 0).log_decay, -std::log(2.0) / 2);
  EXPECT_DOUBLE_EQ(ref::Decay(args, -50, 0).log_decay, -20);
  args.formula = DecayFormula::kLowerBound;
  EXPECT_DOUBLE_EQ(ref::Decay(args, 0, 0.5).log_decay, std::log(0.75));
  EXPECT_DOUBLE_EQ(ref::Decay(args, 0, 0.5).complement, 0.25);
  EXPECT_DOUBLE_EQ(ref::Decay(args, -3, 0.125).log_decay,
                   std::log(0.125 + 0.875 / (1 + std::exp(3.0))));
  args.formula = DecayFormula::kExponential;
  EXPECT_DOUBLE_EQ(ref::Decay(args, 2, 0).log_decay, -std::exp(2.0));
  args.formula = DecayFormula::kSoftplus;
  args.dt_max = 3;
  EXPECT_DOUBLE_EQ(ref::Decay(args, 0, std::log(4.0)).log_decay, -4 * std::log(2.0));
  EXPECT_DOUBLE_EQ(ref::Decay(args, 9, 0).input_scale, 3);
}

TEST_P(DecayTest, DecaysByHand) {
  Problem p = {.args = {.dtype = DType::kFloat32,
                        .formula = DecayFormula::kLogSigmoid,
                        .rows = 1,
                        .dim = 4,
                        .normalizer = 2,
                        .clamp_min = -3},
               .padding = 0,
               .x = {0, -100, 100, -4},
               .bias = {},
               .channel = {}};
  EXPECT_TRUE(EachNear(Decayed(device(), p).log_decay, {-std::log(2.0) / 2, -3, 0, -2.00907496391},
                       1e-6, 1e-30));
  p.args.formula = DecayFormula::kLowerBound;
  p.channel = {0.5, 0.25, 0.25, 0};
  const Result bounded = Decayed(device(), p);
  EXPECT_TRUE(EachNear(bounded.log_decay, {std::log(0.75), std::log(0.25), 0, -4.01814992792}, 1e-6,
                       1e-30));
  EXPECT_TRUE(EachNear(bounded.complement, {0.25, 0.75, 0, 0.98201379004}, 1e-6, 1e-30));
  p.args.formula = DecayFormula::kExponential;
  EXPECT_TRUE(EachNear({Decayed(device(), p).log_decay[0]}, {-1}, 1e-6, 0));
  p.args.formula = DecayFormula::kSoftplus;
  p.args.dt_min = 0.5;
  p.args.dt_max = 50;
  p.channel = {0, 0, std::log(2.0F), 1};
  const Result soft = Decayed(device(), p);
  EXPECT_TRUE(EachNear(soft.input_scale, {std::log(2.0), 0.5, 50, 0.5}, 1e-6, 0));
  EXPECT_TRUE(
      EachNear(soft.log_decay, {-std::log(2.0), -0.5, -100, -0.5 * std::exp(1.0)}, 1e-6, 0));
}

TEST_P(DecayTest, AgreesWithTheOracle) {
  constexpr struct {
    int32_t rows;
    int32_t dim;
    int64_t padding;
  } kShapes[] = {{1, 1, 0},  {1, 4, 0},   {7, 3, 5},   {5, 8, 8},    {130, 12, 1}, {3, 24, 0},
                 {9, 33, 7}, {64, 64, 1}, {2, 255, 0}, {33, 256, 0}, {65, 1032, 8}};
  uint64_t seed = 700;
  for (const auto& shape : kShapes) {
    for (const DecayFormula formula : kFormulas) {
      for (const DType dtype : ActivationTypes()) {
        SCOPED_TRACE(testing::Message()
                     << DTypeName(dtype) << " formula " << static_cast<int>(formula) << " "
                     << shape.rows << "x" << shape.dim);
        Problem p = Make(formula, dtype, shape.rows, shape.dim, ++seed);
        p.padding = shape.padding;
        if (seed % 3 == 0) p.bias.clear();
        if (seed % 5 == 0 && formula == DecayFormula::kLowerBound) p.channel.clear();
        ExpectAgrees(device(), p);
        p.args.normalizer = 16;
        p.args.clamp_min = -0.25;
        p.args.dt_min = 0.01;
        p.args.dt_max = 2;
        ExpectAgrees(device(), p);
      }
    }
  }
}

// Far out, and past where float32's exponential ends.
const std::vector<float> kFarOut = {-1e4, -1000, -120, -100, -90, -50, -20,  -1e-6,
                                    0,    1e-6,  20,   50,   80,  90,  1000, 1e4};

TEST_P(DecayTest, IsStableFarOut) {
  for (const DecayFormula formula : kFormulas) {
    for (const float channel : {0.0F, 1e-30F, 0.5F, 0.999F}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(formula) << " channel " << channel);
      const auto count = static_cast<int32_t>(kFarOut.size());
      Problem p = Make(formula, DType::kFloat32, 1, count, 1);
      p.x = kFarOut;
      p.bias.clear();
      p.channel.assign(count, channel);
      const Result got = Decayed(device(), p);
      const Want want = WantOf(p);
      for (int32_t i = 0; i < count; ++i) {
        EXPECT_LE(got.log_decay[i], 0.0F);
        if (want.log_decay[i] >= -std::numeric_limits<float>::max()) continue;
        EXPECT_EQ(got.log_decay[i], -kInfinity) << p.x[i];
      }
      if (formula != DecayFormula::kExponential) ExpectAgrees(device(), p);
    }
  }
}

TEST_P(DecayTest, ARateWithoutBoundGivesNoNaN) {
  Problem p = Make(DecayFormula::kSoftplus, DType::kFloat32, 1, 4, 1);
  p.x = {-1e4, 1e4, -1e4, 1e4};
  p.bias.clear();
  p.channel = {1e4, 1e4, -1e4, -1e4};
  EXPECT_EQ(Decayed(device(), p).log_decay, std::vector<float>({0, -kInfinity, 0, 0}));
}

TEST_P(DecayTest, ARowDoesNotDependOnItsBatch) {
  for (const DecayFormula formula : kFormulas) {
    const Problem p = Make(formula, ActivationTypes().back(), 71, 37, 710);
    const Result all = Decayed(device(), p);
    for (const size_t row : {0, 31, 70}) {
      Problem one = p;
      one.args.rows = 1;
      one.x = Part(p.x, row * 37, 37);
      EXPECT_TRUE(SameBits(Decayed(device(), one).log_decay, Part(all.log_decay, row * 37, 37)));
    }
  }
}

TEST_P(DecayTest, AChannelDoesNotDependOnHowManyThereAre) {
  for (const DecayFormula formula : kFormulas) {
    const Problem p = Make(formula, ActivationTypes().back(), 1, 64, 711);
    const Result all = Decayed(device(), p);
    Problem some = p;
    some.args.dim = 61;
    some.x.resize(61);
    some.bias.resize(61);
    if (!some.channel.empty()) some.channel.resize(61);
    const Result got = Decayed(device(), some);
    EXPECT_TRUE(SameBits(got.log_decay, Part(all.log_decay, 0, 61)));
    if (!got.complement.empty()) {
      EXPECT_TRUE(SameBits(got.complement, Part(all.complement, 0, 61)));
    }
    if (!got.input_scale.empty()) {
      EXPECT_TRUE(SameBits(got.input_scale, Part(all.input_scale, 0, 61)));
    }
  }
}

TEST(DecayThreads, GiveTheSameBits) {
  const Problem p = Make(DecayFormula::kLowerBound, DType::kFloat32, 67, 1001, 712);
  const Result one = Decayed(*CreateCpuDevice(1), p);
  const Result two = Decayed(*CreateCpuDevice(2), p);
  EXPECT_TRUE(SameBits(one.log_decay, two.log_decay));
  EXPECT_TRUE(SameBits(one.complement, two.complement));
}

using DecayDeathTest = DecayTest;
INSTANTIATE_TEST_SUITE_P(Devices, DecayDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(DecayDeathTest, RefusesWhatBreaksALimit) {
  const Output data(device(), std::vector<float>(16));
  const DecayArgs good = {.dtype = DType::kFloat32,
                          .formula = DecayFormula::kLogSigmoid,
                          .rows = 1,
                          .dim = 8,
                          .x = data.data(),
                          .x_stride = 8,
                          .log_decay = data.as<float>() + 8};
  device().Decay(good);
  const auto dies = [&](auto change) {
    DecayArgs bad = good;
    change(bad);
    EXPECT_DEATH(device().Decay(bad), kCheckFailed);
  };
  dies([](DecayArgs& bad) { bad.dim = 0; });
  dies([](DecayArgs& bad) { bad.x_stride = 7; });
  dies([](DecayArgs& bad) { bad.normalizer = 0; });
  dies([](DecayArgs& bad) { bad.clamp_min = 1; });
  dies([](DecayArgs& bad) { bad.dt_max = -1; });
  dies([](DecayArgs& bad) { bad.formula = DecayFormula::kSoftplus; });
  dies([](DecayArgs& bad) { bad.complement = bad.log_decay; });
  dies([](DecayArgs& bad) { bad.dtype = DType::kFloat16; });
  dies([](DecayArgs& bad) {
    bad.formula = DecayFormula::kExponential;
    bad.input_scale = bad.log_decay;
  });
}

TEST(DecayDeathTest, RefusesBFloat16OnTheCpu) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const Problem p = Make(DecayFormula::kExponential, DType::kBFloat16, 1, 8, 713);
  EXPECT_DEATH(Decayed(*CreateCpuDevice(1), p), kCheckFailed);
}

}  // namespace
}  // namespace sluice
