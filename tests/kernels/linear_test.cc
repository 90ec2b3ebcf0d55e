#include "kernels/linear.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/linear_cpu.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/linear_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

struct Types {
  DType weight;
  DType x;
  DType y;
};

struct Problem {
  Types types;
  int32_t in_dim;
  int32_t out_dim;
  int64_t padding;  // between rows of x and of y
  bool accumulate;
  std::vector<float> x;       // [rows, in_dim]
  std::vector<float> weight;  // [out_dim, in_dim]
  std::vector<float> y;       // [rows, out_dim], what is there before
};

std::vector<float> Product(Device& device, const Problem& p) {
  const int64_t x_stride = p.in_dim + p.padding;
  const int64_t y_stride = p.out_dim + p.padding;
  const auto rows = static_cast<int32_t>(p.x.size() / p.in_dim);
  const Input x(device, Spread(p.x, p.in_dim, x_stride), p.types.x);
  const Input weight(device, p.weight, p.types.weight);
  const Output filled(device, Spread(p.y, p.out_dim, y_stride), p.types.y);
  const Output poisoned(device, StridedSize(rows, p.out_dim, y_stride) * DTypeBytes(p.types.y));
  const Output& y = p.accumulate ? filled : poisoned;
  device.Linear({.rows = rows,
                 .in_dim = p.in_dim,
                 .out_dim = p.out_dim,
                 .weight_dtype = p.types.weight,
                 .x_dtype = p.types.x,
                 .y_dtype = p.types.y,
                 .x = x.data(),
                 .x_stride = x_stride,
                 .weight = weight.data(),
                 .y = y.data(),
                 .y_stride = y_stride,
                 .accumulate = p.accumulate});
  const std::vector<float> written = y.Read(p.types.y);
  EXPECT_TRUE(AllPoison(Columns(written, p.out_dim, p.padding, y_stride)))
      << "written between rows";
  return Columns(written, 0, p.out_dim, y_stride);
}

// What the CPU rounds x to, it is held to: see linear.h.
std::vector<double> Want(const Problem& p) {
  const bool rounds_x = p.types.weight != p.types.x && CpuHasBFloat16();
  const std::vector<float> x = rounds_x ? Rounded(p.x, p.types.weight) : p.x;
  return ref::Linear(x, p.weight, p.accumulate ? p.y : std::vector<float>(), p.in_dim, p.out_dim);
}

Problem Make(Types types, int32_t rows, int32_t in_dim, int32_t out_dim, uint64_t seed) {
  Random random(seed);
  return {types,
          in_dim,
          out_dim,
          0,
          false,
          random.Normals(int64_t{rows} * in_dim, 1.0, types.x),
          random.Normals(int64_t{out_dim} * in_dim, 1 / std::sqrt(in_dim), types.weight),
          random.Normals(int64_t{rows} * out_dim, 1.0, types.y)};
}

class LinearTest : public DeviceTest {
 protected:
  void SetUp() override {
    DeviceTest::SetUp();
    fast_ = OpenTestDevice(GetParam(), /*batch_invariant=*/false);
    ASSERT_NE(fast_, nullptr);
  }

  // Not batch invariant.
  Device& fast() { return *fast_; }
  std::vector<Types> TypesUnderTest() const {
    constexpr DType kF32 = DType::kFloat32;
    constexpr DType kBf16 = DType::kBFloat16;
    if (is_cuda()) return {{kF32, kF32, kF32}, {kBf16, kBf16, kBf16}, {kBf16, kBf16, kF32}};
    return {{kF32, kF32, kF32}, {kBf16, kF32, kF32}};
  }

 private:
  std::unique_ptr<Device> fast_;
};
INSTANTIATE_TEST_SUITE_P(Devices, LinearTest, testing::ValuesIn(DevicesUnderTest()), DeviceName);

Tolerance ToleranceOf(Types types) {
  // One rounding of each result, and the library may round a product before it adds it to y.
  if (types.y == DType::kBFloat16) return {4e-3, 1e-2};  // rounding alone reaches 2^-8
  // What sums of float32 give; tensor cores cut off instead of rounding.
  return {1e-5, 6e-5};
}

TEST(LinearRef, MultipliesByHand) {
  EXPECT_EQ(ref::Linear({1, 2}, {3, 4, 5, 6}, {}, 2, 2), std::vector<double>({11, 17}));
  EXPECT_EQ(ref::Linear({1, 2}, {3, 4, 5, 6}, {100, 200}, 2, 2), std::vector<double>({111, 217}));
}

TEST_P(LinearTest, MultipliesByHand) {
  for (const Types& types : TypesUnderTest()) {
    // Output n takes the n-th input, and the last one 1 + 2 + ... + 8.
    Problem p = Make(types, 1, 8, 8, 1);
    p.x = {1, 2, 3, 4, 5, 6, 7, 8};
    for (int i = 0; i < 64; ++i) p.weight[i] = i % 9 == 0 || i >= 56 ? 1.0F : 0.0F;
    p.y = {10, 20, 30, 40, 50, 60, 70, 80};
    EXPECT_EQ(Product(fast(), p), std::vector<float>({1, 2, 3, 4, 5, 6, 7, 36}));
    p.accumulate = true;
    EXPECT_EQ(Product(fast(), p), std::vector<float>({11, 22, 33, 44, 55, 66, 77, 116}));
  }
}

TEST_P(LinearTest, AgreesWithTheOracle) {
  constexpr struct {
    int32_t rows;
    int32_t in_dim;
    int32_t out_dim;
    int64_t padding;
    bool accumulate;
  } kShapes[] = {{1, 8, 8, 0, false},
                 {2, 16, 24, 8, true},
                 {1, 384, 1024, 0, false},
                 {1, 1032, 520, 0, true},
                 {3, 2048, 264, 0, false},
                 {7, 384, 48, 24, false},
                 {16, 128, 384, 0, true},
                 {63, 40, 72, 0, false},
                 {64, 384, 384, 8, true},
                 {65, 1032, 136, 0, true},
                 {200, 96, 88, 16, false},
                 {1000, 24, 40, 0, false},
                 {4, 1032, 264, 8, false},
                 {5, 24, 40, 0, true},
                 {6, 2312, 72, 0, false},
                 {7, 8, 1000, 8, true},
                 {8, 5632, 88, 0, true},
                 {9, 384, 48, 0, false},
                 {4, 64, 301, 0, false},
                 {3, 64, 301, 0, false},
                 {130, 64, 9, 0, false},
                 {1, 1032, 1001, 0, false},
                 {8, 4096, 520, 0, true},
                 // More outputs than the GPU's multiprocessors sum at once, and ends of K.
                 {3, 1000, 4328, 8, true},
                 {11, 40, 34000, 0, false},
                 {16, 584, 2504, 0, true},
                 {13, 5632, 2048, 0, true},
                 {3, 2600, 4328, 0, false},
                 {9, 2600, 4328, 0, true},
                 {10, 64, 301, 0, false},
                 {17, 1032, 264, 8, true}};
  uint64_t seed = 500;
  for (const auto& shape : kShapes) {
    for (const Types& types : TypesUnderTest()) {
      if (shape.out_dim % 8 != 0 && types.y != DType::kFloat32) continue;
      SCOPED_TRACE(testing::Message() << shape.rows << "x" << shape.in_dim << "x" << shape.out_dim
                                      << " weight " << DTypeName(types.weight) << " x "
                                      << DTypeName(types.x) << " y " << DTypeName(types.y));
      Problem p = Make(types, shape.rows, shape.in_dim, shape.out_dim, ++seed);
      p.padding = shape.padding;
      p.accumulate = shape.accumulate;
      const std::vector<double> want = Want(p);
      EXPECT_TRUE(Near(Product(device(), p), want, ToleranceOf(types))) << "batch invariant";
      EXPECT_TRUE(Near(Product(fast(), p), want, ToleranceOf(types)));
    }
  }
}

TEST_P(LinearTest, ARowDoesNotDependOnTheOtherRowsValues) {
  uint64_t seed = 550;
  for (const Types& types : TypesUnderTest()) {
    for (const int32_t rows : {2, 5, 64, 130}) {
      SCOPED_TRACE(rows);
      const Problem p = Make(types, rows, 256, 96, ++seed);
      const size_t row = rows / 2;
      Problem other = Make(types, rows, 256, 96, ++seed);
      other.weight = p.weight;
      std::copy_n(p.x.begin() + static_cast<std::ptrdiff_t>(row * 256), 256,
                  other.x.begin() + static_cast<std::ptrdiff_t>(row * 256));
      EXPECT_TRUE(SameBits(Part(Product(device(), p), row * 96, 96),
                           Part(Product(device(), other), row * 96, 96)));
    }
  }
}

TEST_P(LinearTest, GivesTheSameBitsEachTime) {
  for (const Types& types : TypesUnderTest()) {
    const Problem p = Make(types, 33, 384, 128, 580);
    EXPECT_TRUE(SameBits(Product(device(), p), Product(device(), p)));
  }
}

// On the GPU, more shapes than it keeps choices for: a step may have any number of rows.
TEST_P(LinearTest, GivesTheSameBitsAfterManyShapes) {
  const int32_t shapes = is_cuda() ? 8200 : 1100;
  Random random(585);
  for (const Types& types : TypesUnderTest()) {
    const Problem p = Make(types, 33, 384, 128, 586);
    const std::vector<float> before = Product(device(), p);
    const Input x(device(), random.Normals(int64_t{shapes} * 8, 1.0, types.x), types.x);
    const Input weight(device(), random.Normals(64, 1.0, types.weight), types.weight);
    const Output y(device(), int64_t{shapes} * 8 * DTypeBytes(types.y));
    for (int32_t rows = 1; rows <= shapes; ++rows) {
      device().Linear({.rows = rows,
                       .in_dim = 8,
                       .out_dim = 8,
                       .weight_dtype = types.weight,
                       .x_dtype = types.x,
                       .y_dtype = types.y,
                       .x = x.data(),
                       .x_stride = 8,
                       .weight = weight.data(),
                       .y = y.data(),
                       .y_stride = 8});
    }
    EXPECT_TRUE(SameBits(Product(device(), p), before));
  }
}

// The library adds in another order for another number of outputs, so that how outputs are shared
// among threads must not depend on how many there are. The shapes are some where it does.
TEST(LinearThreads, GiveTheSameBits) {
  constexpr DType kF32 = DType::kFloat32;
  for (const DType weight : {kF32, DType::kBFloat16}) {
    for (const auto& [in_dim, out_dim] : {std::pair{1024, 384}, {776, 520}, {1024, 1031}}) {
      const Problem p = Make({weight, kF32, kF32}, 101, in_dim, out_dim, 590);
      const std::vector<float> alone = Product(*CreateCpuDevice(1), p);
      EXPECT_TRUE(SameBits(alone, Product(*CreateCpuDevice(2), p)));
      EXPECT_TRUE(SameBits(alone, Product(*CreateCpuDevice(5), p)));
    }
  }
}

// What linear_cpu.h and linear_cuda.h promise of few rows: a batch of decode rows may grow and
// shrink.
TEST_P(LinearTest, AFewRowsDoNotDependOnHowManyThereAre) {
  const int32_t few = is_cuda() ? 8 : LinearCpu::kFewRows;
  for (const Types& types : TypesUnderTest()) {
    for (const int32_t in_dim : {8, 24, 384, 1000, 2312}) {
      const Problem p = Make(types, few, in_dim, 72, 595);
      const std::vector<float> all = Product(fast(), p);
      for (int32_t rows = 1; rows < few; ++rows) {
        Problem fewer = p;
        fewer.x.resize(int64_t{rows} * in_dim);
        fewer.y.resize(int64_t{rows} * 72);
        EXPECT_TRUE(SameBits(Product(fast(), fewer), Part(all, 0, size_t{72} * rows)));
      }
    }
  }
}

// What a device promises that is asked to be batch invariant, as those of these tests are.
TEST_P(LinearTest, ARowDoesNotDependOnHowManyThereAre) {
  for (const Types& types : TypesUnderTest()) {
    for (const bool accumulate : {false, true}) {
      Problem p = Make(types, 700, 1096, 72, 596);
      p.accumulate = accumulate;
      const std::vector<float> all = Product(device(), p);
      EXPECT_TRUE(Near(all, Want(p), ToleranceOf(types)));
      for (const int32_t rows : {1, 2, 8, 9, 16, 63, 64, 65, 130, 256, 512, 699}) {
        Problem fewer = p;
        fewer.x.resize(size_t{1096} * rows);
        fewer.y.resize(size_t{72} * rows);
        EXPECT_TRUE(SameBits(Product(device(), fewer), Part(all, 0, size_t{72} * rows))) << rows;
      }
    }
  }
}

TEST_P(LinearTest, TakesNoRows) {
  for (const Types& types : TypesUnderTest()) {
    EXPECT_TRUE(Product(device(), Make(types, 0, 64, 32, 590)).empty());
  }
}

using LinearDeathTest = LinearTest;
INSTANTIATE_TEST_SUITE_P(Devices, LinearDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(LinearDeathTest, RefusesWhatBreaksALimit) {
  constexpr Types kFloat32 = {DType::kFloat32, DType::kFloat32, DType::kFloat32};
  EXPECT_DEATH(Product(device(), Make(kFloat32, 1, 12, 8, 1)), kCheckFailed);
  EXPECT_DEATH(Product(device(), Make(kFloat32, 1, 8, 4, 1)), kCheckFailed);
  Problem accumulated = Make(kFloat32, 1, 8, 12, 1);
  accumulated.accumulate = true;
  EXPECT_DEATH(Product(device(), accumulated), kCheckFailed);
  EXPECT_DEATH(
      Product(device(), Make({DType::kFloat32, DType::kBFloat16, DType::kFloat32}, 1, 8, 8, 1)),
      kCheckFailed);
  if (is_cuda()) return;
  EXPECT_DEATH(
      Product(device(), Make({DType::kBFloat16, DType::kBFloat16, DType::kFloat32}, 1, 8, 8, 1)),
      kCheckFailed);
  EXPECT_DEATH(
      Product(device(), Make({DType::kBFloat16, DType::kFloat32, DType::kBFloat16}, 1, 8, 8, 1)),
      kCheckFailed);
}

}  // namespace
}  // namespace sluice
