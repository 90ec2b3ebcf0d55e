// Several products of one shape in one call of kernels/linear.h.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/linear.h"
#include "kernels/linear_cpu.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/linear_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

// Where the rows of a batch lie: product after product, or side by side in each row.
struct Layout {
  int64_t stride;
  int64_t step;
};

Layout Apart(int64_t rows, int64_t cols) {
  const int64_t stride = (cols + 7) / 8 * 8 + 8;
  return {stride, rows * stride};
}

Layout Interleaved(int64_t batch, int64_t cols) {
  const int64_t step = (cols + 7) / 8 * 8;
  return {batch * step, step};
}

// Everything dense: [batch, rows, columns].
struct Problem {
  DType weight_dtype;
  DType dtype;  // of x and y
  int32_t batch;
  int32_t rows;
  int32_t in_dim;
  int32_t out_dim;
  bool interleaved;
  bool shared_x;
  bool shared_weight;
  std::vector<float> x;
  std::vector<float> weight;

  int64_t inputs() const { return shared_x ? 1 : batch; }
  int64_t weights() const { return shared_weight ? 1 : batch; }
  Layout XLayout() const {
    Layout layout = interleaved ? Interleaved(batch, in_dim) : Apart(rows, in_dim);
    if (shared_x) layout.step = 0;
    return layout;
  }
  Layout YLayout() const {
    return interleaved ? Interleaved(batch, out_dim) : Apart(rows, out_dim);
  }
};

// [count, rows, cols] as `layout` says, with poison between.
std::vector<float> Place(const std::vector<float>& dense, const Layout& layout, int64_t rows,
                         int64_t cols) {
  const int64_t count = rows == 0 ? 0 : static_cast<int64_t>(dense.size()) / (rows * cols);
  if (count == 0) return {};
  std::vector<float> placed((count - 1) * layout.step + (rows - 1) * layout.stride + cols,
                            kPoisonNumber);
  for (int64_t i = 0; i < count * rows; ++i) {
    std::copy_n(dense.begin() + i * cols, cols,
                placed.begin() + i / rows * layout.step + i % rows * layout.stride);
  }
  return placed;
}

// The numbers back, which become poison in `placed`.
std::vector<float> Pick(std::vector<float>& placed, const Layout& layout, int64_t count,
                        int64_t rows, int64_t cols) {
  std::vector<float> dense;
  for (int64_t i = 0; i < count * rows; ++i) {
    const auto from = placed.begin() + i / rows * layout.step + i % rows * layout.stride;
    dense.insert(dense.end(), from, from + cols);
    std::fill_n(from, cols, kPoisonNumber);
  }
  return dense;
}

std::vector<float> Products(Device& device, const Problem& p) {
  const Layout x_layout = p.XLayout();
  const Layout y_layout = p.YLayout();
  const Input x(device, Place(p.x, x_layout, p.rows, p.in_dim), p.dtype);
  const Input weight(device, p.weight, p.weight_dtype);
  const std::vector<float> before(int64_t{p.batch} * p.rows * p.out_dim, kPoisonNumber);
  const Output y(device, Place(before, y_layout, p.rows, p.out_dim), p.dtype);
  device.Linear({.rows = p.rows,
                 .in_dim = p.in_dim,
                 .out_dim = p.out_dim,
                 .weight_dtype = p.weight_dtype,
                 .x_dtype = p.dtype,
                 .y_dtype = p.dtype,
                 .x = x.data(),
                 .x_stride = x_layout.stride,
                 .weight = weight.data(),
                 .y = y.data(),
                 .y_stride = y_layout.stride,
                 .batch = p.batch,
                 .x_step = x_layout.step,
                 .weight_step = p.shared_weight ? 0 : int64_t{p.out_dim} * p.in_dim,
                 .y_step = y_layout.step});
  std::vector<float> written = y.Read(p.dtype);
  std::vector<float> result = Pick(written, y_layout, p.batch, p.rows, p.out_dim);
  EXPECT_TRUE(AllPoison(written)) << "written between rows";
  return result;
}

// The operands of one product alone.
Problem One(const Problem& p, int64_t index) {
  Problem one = p;
  one.batch = 1;
  one.interleaved = false;
  const int64_t inputs = int64_t{p.rows} * p.in_dim;
  const int64_t weights = int64_t{p.out_dim} * p.in_dim;
  if (!p.shared_x) one.x = Part(p.x, index * inputs, inputs);
  if (!p.shared_weight) one.weight = Part(p.weight, index * weights, weights);
  return one;
}

std::vector<double> Want(const Problem& p) {
  std::vector<double> want;
  for (int32_t i = 0; i < p.batch; ++i) {
    const Problem one = One(p, i);
    const bool rounds_x = p.weight_dtype != p.dtype && CpuHasBFloat16();
    const std::vector<double> product =
        ref::Linear(rounds_x ? Rounded(one.x, p.weight_dtype) : one.x, one.weight,
                    std::vector<float>(), p.in_dim, p.out_dim);
    want.insert(want.end(), product.begin(), product.end());
  }
  return want;
}

struct Shape {
  int32_t batch;
  int32_t rows;
  int32_t in_dim;
  int32_t out_dim;
  bool interleaved;
  bool shared_x = false;
  bool shared_weight = false;
};

Problem Make(const Shape& s, DType weight_dtype, DType dtype, uint64_t seed) {
  Random random(seed);
  Problem p = {weight_dtype,  dtype,      s.batch,         s.rows, s.in_dim, s.out_dim,
               s.interleaved, s.shared_x, s.shared_weight, {},     {}};
  p.x = random.Normals(p.inputs() * s.rows * s.in_dim, 1.0, dtype);
  p.weight =
      random.Normals(p.weights() * s.out_dim * s.in_dim, 1 / std::sqrt(s.in_dim), weight_dtype);
  return p;
}

class LinearBatchTest : public DeviceTest {
 protected:
  DType ActivationType(DType weights) { return is_cuda() ? weights : DType::kFloat32; }
};
INSTANTIATE_TEST_SUITE_P(Devices, LinearBatchTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

constexpr Shape kShapes[] = {
    {.batch = 2, .rows = 1, .in_dim = 8, .out_dim = 8, .interleaved = false},
    {.batch = 5, .rows = 1, .in_dim = 32, .out_dim = 2048, .interleaved = true},
    {.batch = 5, .rows = 3, .in_dim = 24, .out_dim = 136, .interleaved = false},
    {.batch = 3, .rows = 2, .in_dim = 128, .out_dim = 64, .interleaved = true},
    {.batch = 3, .rows = 8, .in_dim = 72, .out_dim = 48, .interleaved = true},
    {.batch = 2, .rows = 3, .in_dim = 2048, .out_dim = 1024, .interleaved = true},
    {.batch = 200, .rows = 12, .in_dim = 136, .out_dim = 88, .interleaved = false},
    {.batch = 7, .rows = 16, .in_dim = 264, .out_dim = 40, .interleaved = true},
    {.batch = 2, .rows = 1, .in_dim = 1032, .out_dim = 520, .interleaved = false, .shared_x = true},
    {.batch = 4, .rows = 65, .in_dim = 64, .out_dim = 88, .interleaved = true, .shared_x = true},
    {.batch = 6,
     .rows = 9,
     .in_dim = 40,
     .out_dim = 72,
     .interleaved = true,
     .shared_weight = true},
    {.batch = 64, .rows = 2, .in_dim = 64, .out_dim = 64, .interleaved = true},
    {.batch = 2, .rows = 200, .in_dim = 96, .out_dim = 104, .interleaved = false},
    {.batch = 3, .rows = 5, .in_dim = 16, .out_dim = 37, .interleaved = false},
    {.batch = 1, .rows = 4, .in_dim = 16, .out_dim = 24, .interleaved = true},
    {.batch = 3, .rows = 0, .in_dim = 16, .out_dim = 24, .interleaved = false},
};

TEST_P(LinearBatchTest, AgreesWithTheOracle) {
  const auto fast = OpenTestDevice(GetParam(), /*batch_invariant=*/false);
  uint64_t seed = 1500;
  for (const Shape& shape : kShapes) {
    for (const DType weights : {DType::kFloat32, DType::kBFloat16}) {
      const DType dtype = ActivationType(weights);
      if (shape.out_dim % 8 != 0 && dtype != DType::kFloat32) continue;
      SCOPED_TRACE(testing::Message() << shape.batch << " of " << shape.rows << "x" << shape.in_dim
                                      << "x" << shape.out_dim << " " << DTypeName(weights));
      const Problem p = Make(shape, weights, dtype, ++seed);
      const Tolerance tolerance =
          dtype == DType::kBFloat16 ? Tolerance{4e-3, 5e-3} : Tolerance{1e-5, 6e-5};
      EXPECT_TRUE(Near(Products(device(), p), Want(p), tolerance)) << "batch invariant";
      EXPECT_TRUE(Near(Products(*fast, p), Want(p), tolerance));
    }
  }
}

TEST_P(LinearBatchTest, GivesTheSameBitsEachTime) {
  for (const Shape& shape : kShapes) {
    const Problem p = Make(shape, DType::kFloat32, DType::kFloat32, 1550);
    EXPECT_TRUE(SameBits(Products(device(), p), Products(device(), p)));
  }
}

TEST_P(LinearBatchTest, AProductDoesNotDependOnTheOthersValues) {
  const Shape shape = {.batch = 3, .rows = 5, .in_dim = 128, .out_dim = 96, .interleaved = true};
  const Problem p = Make(shape, DType::kFloat32, DType::kFloat32, 1560);
  Problem other = Make(shape, DType::kFloat32, DType::kFloat32, 1561);
  std::copy_n(p.x.begin() + 5 * 128, 5 * 128, other.x.begin() + 5 * 128);
  std::copy_n(p.weight.begin() + 96 * 128, 96 * 128, other.weight.begin() + 96 * 128);
  EXPECT_TRUE(SameBits(Part(Products(device(), p), 5 * 96, 5 * 96),
                       Part(Products(device(), other), 5 * 96, 5 * 96)));
}

// What linear_cpu.h promises: each as if it were alone.
TEST(LinearBatchCpu, GivesTheBitsOfEachProductAlone) {
  const std::unique_ptr<Device> device = CreateCpuDevice(2);
  for (const Shape& shape : kShapes) {
    for (const DType weights : {DType::kFloat32, DType::kBFloat16}) {
      const Problem p = Make(shape, weights, DType::kFloat32, 1570);
      const std::vector<float> all = Products(*device, p);
      const size_t size = size_t{1} * shape.rows * shape.out_dim;
      for (int32_t i = 0; i < shape.batch; ++i) {
        EXPECT_TRUE(SameBits(Products(*device, One(p, i)), Part(all, i * size, size)));
      }
    }
  }
}

using LinearBatchDeathTest = LinearBatchTest;
INSTANTIATE_TEST_SUITE_P(Devices, LinearBatchDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(LinearBatchDeathTest, RefusesWhatBreaksALimit) {
  const std::vector<float> numbers(256);
  const Input in(device(), numbers);
  const Output out(device(), numbers);
  bool accumulate = false;
  const auto run = [&](int32_t batch, int64_t x_step, int64_t weight_step, int64_t y_step) {
    device().Linear({.rows = 1,
                     .in_dim = 8,
                     .out_dim = 8,
                     .weight_dtype = DType::kFloat32,
                     .x_dtype = DType::kFloat32,
                     .y_dtype = DType::kFloat32,
                     .x = in.data(),
                     .x_stride = 8,
                     .weight = in.data(),
                     .y = out.data(),
                     .y_stride = 8,
                     .accumulate = accumulate,
                     .batch = batch,
                     .x_step = x_step,
                     .weight_step = weight_step,
                     .y_step = y_step});
  };
  run(2, 8, 64, 8);
  EXPECT_DEATH(run(0, 8, 64, 8), kCheckFailed);
  EXPECT_DEATH(run(2, 4, 64, 8), kCheckFailed);
  EXPECT_DEATH(run(2, 8, 60, 8), kCheckFailed);
  EXPECT_DEATH(run(2, 8, 64, 12), kCheckFailed);
  EXPECT_DEATH(run(2, 8, 64, 0), kCheckFailed);
  EXPECT_DEATH(run(2, -8, 64, 8), kCheckFailed);
  accumulate = true;
  run(1, 8, 64, 8);
  EXPECT_DEATH(run(2, 8, 64, 8), kCheckFailed);
}

}  // namespace
}  // namespace sluice
