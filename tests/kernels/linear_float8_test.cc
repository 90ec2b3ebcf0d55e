// Products of kernels/linear.h with float8 weights: held against those with the bfloat16 weights
// that they stand for, and against the oracle.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/float8.h"
#include "kernels/linear.h"
#include "kernels/linear_cpu.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/float8_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/linear_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

struct Shape {
  int32_t rows;
  int32_t in_dim;
  int32_t out_dim;
  int64_t padding = 0;  // between rows of x and of y
  bool accumulate = false;
};

struct Problem {
  Shape shape;
  DType x_dtype;
  DType y_dtype;
  std::vector<float> x;
  std::vector<float> y;  // what is there before
  std::vector<uint8_t> codes;
  std::vector<float> scales;
  std::vector<float> weight;  // what these stand for
};

// Rows of very different sizes, as no model has them side by side; the last one is zero.
void AddWeights(Random& random, Problem* p) {
  const int64_t in_dim = p->shape.in_dim;
  for (int32_t row = 0; row < p->shape.out_dim; ++row) {
    const double size = std::ldexp(1 / std::sqrt(in_dim), row % 7 - 3);
    std::vector<float> values = random.Normals(in_dim, row + 1 == p->shape.out_dim ? 0 : size);
    const float scale = FitFloat8Scale(LargestMagnitude(values.data(), in_dim));
    std::vector<uint8_t> codes(in_dim);
    RoundToFloat8(values.data(), in_dim, scale, codes.data());
    p->scales.push_back(scale);
    p->codes.insert(p->codes.end(), codes.begin(), codes.end());
    RoundRowsThroughFloat8(values.data(), 1, in_dim);
    p->weight.insert(p->weight.end(), values.begin(), values.end());
  }
}

Problem Make(const Shape& shape, DType x_dtype, DType y_dtype, uint64_t seed) {
  Random random(seed);
  Problem p = {shape, x_dtype, y_dtype};
  p.x = random.Normals(int64_t{shape.rows} * shape.in_dim, 1.0, x_dtype);
  p.y = random.Normals(int64_t{shape.rows} * shape.out_dim, 1.0, y_dtype);
  AddWeights(random, &p);
  return p;
}

LinearArgs ArgsOf(const Problem& p, const Input& x, const Output& y) {
  return {.rows = p.shape.rows,
          .in_dim = p.shape.in_dim,
          .out_dim = p.shape.out_dim,
          .weight_dtype = DType::kFloat8,
          .x_dtype = p.x_dtype,
          .y_dtype = p.y_dtype,
          .x = x.data(),
          .x_stride = p.shape.in_dim + p.shape.padding,
          .y = y.data(),
          .y_stride = p.shape.out_dim + p.shape.padding,
          .accumulate = p.shape.accumulate};
}

// A problem's operands on a device.
class OnDevice {
 public:
  OnDevice(Device& device, const Problem& p, DType weight_dtype)
      : problem_(p),
        x_(device, Spread(p.x, p.shape.in_dim, p.shape.in_dim + p.shape.padding), p.x_dtype),
        filled_(device, Spread(p.y, p.shape.out_dim, y_stride()), p.y_dtype),
        poisoned_(device,
                  StridedSize(p.shape.rows, p.shape.out_dim, y_stride()) * DTypeBytes(p.y_dtype)),
        codes_(device, p.codes),
        scales_(device, p.scales),
        weight_(device, p.weight, DType::kBFloat16),
        args_(ArgsOf(p, x_, y())) {
    args_.weight = codes_.data();
    args_.weight_scale = scales_.as<float>();
    if (weight_dtype == DType::kFloat8) return;
    args_.weight_dtype = weight_dtype;
    args_.weight = weight_.data();
    args_.weight_scale = nullptr;
  }

  const LinearArgs& args() const { return args_; }
  std::vector<float> Read() const {
    const int64_t out_dim = problem_.shape.out_dim;
    const std::vector<float> written = y().Read(problem_.y_dtype);
    EXPECT_TRUE(AllPoison(Columns(written, out_dim, problem_.shape.padding, y_stride())))
        << "written between rows";
    return Columns(written, 0, out_dim, y_stride());
  }

 private:
  int64_t y_stride() const { return problem_.shape.out_dim + problem_.shape.padding; }
  const Output& y() const { return problem_.shape.accumulate ? filled_ : poisoned_; }

  const Problem& problem_;
  const Input x_;
  const Output filled_;
  const Output poisoned_;
  const Input codes_;
  const Input scales_;
  const Input weight_;
  LinearArgs args_;
};

std::vector<float> Product(Device& device, const Problem& p, DType weight_dtype) {
  const OnDevice operands(device, p, weight_dtype);
  device.Linear(operands.args());
  return operands.Read();
}

// `large` with float8 weights and `small` with bfloat16 ones, queued as a pair in both orders.
void ExpectPairToBeThoseProducts(Device& device, const Problem& large, const Problem& small) {
  for (const bool small_first : {false, true}) {
    const OnDevice a(device, large, DType::kFloat8);
    const OnDevice b(device, small, DType::kBFloat16);
    device.LinearPair((small_first ? b : a).args(), (small_first ? a : b).args());
    EXPECT_TRUE(SameBits(a.Read(), Product(device, large, DType::kFloat8))) << small_first;
    EXPECT_TRUE(SameBits(b.Read(), Product(device, small, DType::kBFloat16))) << small_first;
  }
}

std::vector<double> Want(const Problem& p) {
  const bool rounds_x = p.x_dtype == DType::kFloat32 && CpuHasBFloat16();
  return ref::Linear(rounds_x ? Rounded(p.x, DType::kBFloat16) : p.x, p.weight,
                     p.shape.accumulate ? p.y : std::vector<float>(), p.shape.in_dim,
                     p.shape.out_dim);
}

// Those of linear_test.cc.
Tolerance ToleranceOf(DType y_dtype) {
  if (y_dtype == DType::kBFloat16) return {4e-3, 1e-2};
  return {1e-5, 6e-5};
}

class LinearFloat8Test : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    fast_ = OpenTestDevice(GetParam(), /*batch_invariant=*/false);
    ASSERT_NE(fast_, nullptr);
    if (!is_cuda()) return;
    std::string error;
    portable_ = CreateCudaDevice({.portable = true, .float8_weights = true}, &error);
    ASSERT_NE(portable_, nullptr) << error;
  }

  // Not batch invariant.
  Device& fast() { return *fast_; }
  // The same with the kernels that every GPU has.
  Device& portable() { return is_cuda() ? *portable_ : *fast_; }
  DType x_dtype() const { return is_cuda() ? DType::kBFloat16 : DType::kFloat32; }
  std::vector<DType> ResultTypes() const { return ActivationTypes(); }
  Problem Make(const Shape& shape, uint64_t seed, std::optional<DType> y_dtype = {}) const {
    return sluice::Make(shape, x_dtype(), y_dtype.value_or(x_dtype()), seed);
  }
  // Whether such a product with bfloat16 weights is computed in the same way.
  bool HasOneOrder(const Shape& shape) const {
    if (!is_cuda()) return true;
    if (shape.rows <= 8) return shape.in_dim > 128;  // few columns go without tensor cores
    return shape.rows > 256;
  }

 private:
  std::unique_ptr<Device> fast_;
  std::unique_ptr<Device> portable_;
};
INSTANTIATE_TEST_SUITE_P(Devices, LinearFloat8Test, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

constexpr struct {
  int32_t in_dim;
  int32_t out_dim;
} kMatrices[] = {{16, 8},     {144, 40},    {256, 264}, {1040, 520},
                 {2064, 136}, {1152, 1288}, {5632, 88}};
constexpr int32_t kRows[] = {1, 3, 8, 9, 16, 17, 33, 64, 65, 128, 129, 256, 257};

TEST_P(LinearFloat8Test, IsTheProductOfWhatTheWeightsStandFor) {
  uint64_t seed = 700;
  for (const auto& [in_dim, out_dim] : kMatrices) {
    for (const int32_t rows : kRows) {
      for (const DType y_dtype : ResultTypes()) {
        SCOPED_TRACE(testing::Message()
                     << rows << "x" << in_dim << "x" << out_dim << " y " << DTypeName(y_dtype));
        ++seed;
        const bool accumulate = seed % 2 == 0;
        const int64_t padding = seed % 3 == 0 ? 8 : 0;
        const Problem p = Make({rows, in_dim, out_dim, padding, accumulate}, seed, y_dtype);
        const std::vector<double> want = Want(p);
        const std::vector<float> invariant = Product(device(), p, DType::kFloat8);
        EXPECT_TRUE(Near(invariant, want, ToleranceOf(y_dtype))) << "batch invariant";
        EXPECT_TRUE(SameBits(invariant, Product(device(), p, DType::kBFloat16)));
        EXPECT_TRUE(Near(Product(portable(), p, DType::kFloat8), want, ToleranceOf(y_dtype)))
            << "portable";
        const std::vector<float> got = Product(fast(), p, DType::kFloat8);
        EXPECT_TRUE(Near(got, want, ToleranceOf(y_dtype)));
        if (!HasOneOrder(p.shape)) continue;
        EXPECT_TRUE(SameBits(got, Product(fast(), p, DType::kBFloat16)));
      }
    }
  }
}

TEST_P(LinearFloat8Test, TakesAnyNumberOfRows) {
  for (int32_t rows = 1; rows <= 130; ++rows) {
    const Problem p = Make({rows, 272, 72}, 780 + rows);
    const std::vector<double> want = Want(p);
    for (Device* device : {&fast(), &portable()}) {
      EXPECT_TRUE(Near(Product(*device, p, DType::kFloat8), want, ToleranceOf(p.y_dtype))) << rows;
    }
  }
}

// More outputs than a GPU's multiprocessors take at once.
TEST_P(LinearFloat8Test, TakesManyOutputs) {
  for (const int32_t rows : {8, 16, 64, 128, 200}) {
    const Problem p = Make({rows, 144, 33800}, 785, DType::kFloat32);
    const std::vector<float> want = Product(fast(), p, DType::kBFloat16);
    EXPECT_TRUE(Near(Product(fast(), p, DType::kFloat8), {want.begin(), want.end()},
                     ToleranceOf(DType::kFloat32)))
        << rows;
  }
}

// Scales at both ends of their range, in rows of one number each, whose product is exact.
TEST_P(LinearFloat8Test, TakesScalesOfAnySize) {
  for (const int32_t rows : {1, 9, 130}) {
    Problem p = Make({rows, 256, 16}, 790, DType::kFloat32);
    std::fill(p.codes.begin(), p.codes.end(), uint8_t{0});
    p.x.assign(p.x.size(), 0.0F);
    for (int32_t row = 0; row < rows; ++row) p.x[size_t{256} * row + row] = 2.0F;
    std::vector<float> want(size_t{16} * rows);
    for (int32_t output = 0; output < 16; ++output) {
      const int exponent =
          output % 2 == 0 ? kLeastFloat8Exponent + output : kMostFloat8Exponent - 1 - output;
      p.scales[output] = std::ldexp(1.0F, exponent);
      for (int32_t row = 0; row < std::min(rows, 256); ++row) {
        const auto code = static_cast<uint8_t>(row % 127 | (output % 3 == 0 ? 0x80 : 0));
        p.codes[size_t{256} * output + row] = code;
        want[size_t{16} * row + output] = 2.0F * FromFloat8(code) * p.scales[output];
      }
    }
    for (Device* each : {&fast(), &portable(), &device()}) {
      const std::vector<float> got = Product(*each, p, DType::kFloat8);
      for (size_t i = 0; i < want.size(); ++i) EXPECT_EQ(got[i], want[i]) << rows << " " << i;
    }
  }
}

TEST_P(LinearFloat8Test, ARowDoesNotDependOnTheOtherRowsValues) {
  uint64_t seed = 800;
  for (const int32_t rows : {2, 8, 16, 64, 100, 130, 260}) {
    SCOPED_TRACE(rows);
    const Problem p = Make({rows, 1040, 136}, ++seed);
    const size_t row = rows / 2;
    Problem other = Make({rows, 1040, 136}, ++seed);
    other.codes = p.codes;
    other.scales = p.scales;
    std::copy_n(p.x.begin() + static_cast<std::ptrdiff_t>(row * 1040), 1040,
                other.x.begin() + static_cast<std::ptrdiff_t>(row * 1040));
    EXPECT_TRUE(SameBits(Part(Product(fast(), p, DType::kFloat8), row * 136, 136),
                         Part(Product(fast(), other, DType::kFloat8), row * 136, 136)));
  }
}

TEST_P(LinearFloat8Test, GivesTheSameBitsEachTime) {
  for (const int32_t rows : {5, 16, 33, 100}) {
    const Problem p = Make({rows, 2048, 1288}, 820);
    const std::vector<float> first = Product(fast(), p, DType::kFloat8);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(SameBits(Product(fast(), p, DType::kFloat8), first));
  }
}

// What a device promises that is asked to be batch invariant.
TEST_P(LinearFloat8Test, ARowDoesNotDependOnHowManyThereAre) {
  const Problem p = Make({200, 528, 136}, 830);
  const std::vector<float> all = Product(device(), p, DType::kFloat8);
  for (const int32_t rows : {1, 3, 8, 9, 64, 65, 128, 129}) {
    Problem fewer = p;
    fewer.shape.rows = rows;
    fewer.x.resize(size_t{528} * rows);
    fewer.y.resize(size_t{136} * rows);
    EXPECT_TRUE(
        SameBits(Product(device(), fewer, DType::kFloat8), Part(all, 0, size_t{136} * rows)))
        << rows;
  }
}

TEST_P(LinearFloat8Test, AFewRowsDoNotDependOnHowManyThereAre) {
  const int32_t few = is_cuda() ? 8 : LinearCpu::kFewRows;
  const Problem p = Make({few, 2320, 72}, 840);
  const std::vector<float> all = Product(fast(), p, DType::kFloat8);
  for (int32_t rows = 1; rows < few; ++rows) {
    Problem fewer = p;
    fewer.shape.rows = rows;
    fewer.x.resize(size_t{2320} * rows);
    fewer.y.resize(size_t{72} * rows);
    EXPECT_TRUE(SameBits(Product(fast(), fewer, DType::kFloat8), Part(all, 0, size_t{72} * rows)));
  }
}

// On the GPU some are widened into one memory, one after the other, and some read their weights
// before what was queued earlier has ended: each must find its own.
TEST_P(LinearFloat8Test, KeepsProductsApartThatAreQueuedTogether) {
  const std::vector<int32_t> rows = {300, 3, 16, 260, 290, 64, 1, 130, 300};
  std::vector<Problem> problems;
  std::vector<std::vector<float>> alone;
  std::vector<std::unique_ptr<Input>> inputs;
  std::vector<std::unique_ptr<Output>> results;
  for (size_t i = 0; i < rows.size(); ++i) {
    const int32_t out_dim = 512 + 64 * static_cast<int32_t>(i);
    problems.push_back(Make({rows[i], 512, out_dim}, 850 + i));
    alone.push_back(Product(fast(), problems[i], DType::kFloat8));
  }
  const auto queue = [&] {
    for (size_t i = 0; i < problems.size(); ++i) {
      LinearArgs args = ArgsOf(problems[i], *inputs[3 * i], *results[i]);
      args.weight = inputs[3 * i + 1]->data();
      args.weight_scale = inputs[3 * i + 2]->as<float>();
      fast().Linear(args);
    }
  };
  for (const Problem& p : problems) {
    inputs.push_back(std::make_unique<Input>(fast(), p.x, p.x_dtype));
    inputs.push_back(std::make_unique<Input>(fast(), p.codes));
    inputs.push_back(std::make_unique<Input>(fast(), p.scales));
    results.push_back(
        std::make_unique<Output>(fast(), static_cast<int64_t>(p.y.size()) * DTypeBytes(p.y_dtype)));
  }
  queue();
  for (size_t i = 0; i < problems.size(); ++i) {
    EXPECT_TRUE(SameBits(results[i]->Read(problems[i].y_dtype), alone[i])) << i;
  }
  const std::unique_ptr<Recording> recording = fast().Record(queue);
  if (recording == nullptr) return;
  for (size_t i = 0; i < problems.size(); ++i) {
    fast().Zero(results[i]->data(),
                static_cast<int64_t>(problems[i].y.size()) * DTypeBytes(problems[i].y_dtype));
  }
  fast().Play(*recording);
  fast().Play(*recording);
  for (size_t i = 0; i < problems.size(); ++i) {
    EXPECT_TRUE(SameBits(results[i]->Read(problems[i].y_dtype), alone[i])) << "played " << i;
  }
}

// Of few rows the GPU computes both at once.
TEST_P(LinearFloat8Test, GivesTheSameBitsBesideAProductWithBFloat16Weights) {
  uint64_t seed = 860;
  const auto expect_pair = [&](int32_t rows, int32_t in_dim, DType y_dtype, bool accumulate) {
    SCOPED_TRACE(testing::Message() << rows << "x" << in_dim << " y " << DTypeName(y_dtype)
                                    << (accumulate ? " added" : ""));
    const Problem large = Make({rows, in_dim, 264, 8, accumulate}, ++seed, y_dtype);
    const Problem small = Make({rows, in_dim, 24, 16, accumulate}, ++seed, y_dtype);
    ExpectPairToBeThoseProducts(fast(), large, small);
    ExpectPairToBeThoseProducts(portable(), large, small);
    ExpectPairToBeThoseProducts(device(), large, small);
  };
  for (const int32_t rows : {0, 1, 8, 9, 40}) {
    for (const int32_t in_dim : {128, 2320}) {
      for (const DType y_dtype : ResultTypes()) {
        expect_pair(rows, in_dim, y_dtype, false);
        expect_pair(rows, in_dim, y_dtype, true);
      }
    }
  }
}

// Larger than what the GPU widens at once, and by as many rows as it widens for; a CPU always
// widens by parts.
TEST_P(LinearFloat8Test, MultipliesALargeWeightByParts) {
  const int32_t in_dim = is_cuda() ? 4096 : 256;
  const Problem p = Make({260, in_dim, 8456, 8}, 870, DType::kFloat32);
  const std::vector<float> want = Product(fast(), p, DType::kBFloat16);
  EXPECT_TRUE(Near(Product(fast(), p, DType::kFloat8), {want.begin(), want.end()},
                   ToleranceOf(DType::kFloat32)));
}

TEST_P(LinearFloat8Test, TakesNoRows) {
  EXPECT_TRUE(Product(device(), Make({0, 64, 32}, 880), DType::kFloat8).empty());
}

using LinearFloat8DeathTest = LinearFloat8Test;
INSTANTIATE_TEST_SUITE_P(Devices, LinearFloat8DeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(LinearFloat8DeathTest, RefusesWhatBreaksALimit) {
  EXPECT_DEATH(Product(device(), Make({1, 24, 8}, 1), DType::kFloat8), kCheckFailed);
  EXPECT_DEATH(Product(device(), Make({1, 16, 12}, 1, DType::kFloat32), DType::kFloat8),
               kCheckFailed);
  const Problem p = Make({1, 16, 16}, 1);
  const Input x(device(), p.x, p.x_dtype);
  const Input weight(device(), p.weight, DType::kBFloat16);
  const Input scales(device(), p.scales);
  const Output y(device(), 64);
  LinearArgs args = ArgsOf(p, x, y);
  args.weight = weight.data();
  EXPECT_DEATH(device().Linear(args), kCheckFailed);  // no scales
  args.weight_scale = scales.as<float>();
  LinearArgs batch = args;
  batch.batch = 2;
  batch.out_dim = 8;
  batch.y_step = 8;
  EXPECT_DEATH(device().Linear(batch), kCheckFailed);
  args.weight_dtype = DType::kBFloat16;
  EXPECT_DEATH(device().Linear(args), kCheckFailed);  // scales of bfloat16
}

}  // namespace
}  // namespace sluice
