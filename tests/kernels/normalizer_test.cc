#include "kernels/normalizer.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/normalizer_ref.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

struct Problem {
  DType dtype;
  NormalizeKind kind;
  int32_t rows;
  int32_t heads;
  int32_t dim;
  float eps;
  int64_t padding;               // between rows of v
  std::vector<float> v;          // [rows, heads, dim]
  std::vector<float> x;          // [rows, heads, dim + 16]
  std::vector<float> log_floor;  // [rows, heads], or empty for kSum
};

std::vector<float> Padded(Device& device, const Problem& p) {
  const int64_t cols = int64_t{p.heads} * p.dim;
  const Input v(device, Spread(p.v, cols, cols + p.padding), p.dtype);
  const int64_t count = int64_t{p.rows} * p.heads * (p.dim + kNormalizerTile);
  const Output out(device, count * DTypeBytes(p.dtype));
  device.PadValues({.dtype = p.dtype,
                    .rows = p.rows,
                    .heads = p.heads,
                    .dim = p.dim,
                    .v = v.data(),
                    .v_stride = cols + p.padding,
                    .out = out.data()});
  return out.Read(p.dtype);
}

std::vector<float> Normalized(Device& device, const Problem& p) {
  const Input x(device, p.x, p.dtype);
  const Input log_floor(device, p.log_floor);
  const Output y(device, int64_t{p.rows} * p.heads * p.dim * DTypeBytes(p.dtype));
  device.Normalize({.dtype = p.dtype,
                    .kind = p.kind,
                    .rows = p.rows,
                    .heads = p.heads,
                    .dim = p.dim,
                    .eps = p.eps,
                    .x = x.data(),
                    .log_floor = log_floor.as<float>(),
                    .y = y.data()});
  return y.Read(p.dtype);
}

std::vector<double> WantNormalized(const Problem& p) {
  return ref::Normalize(p.kind, p.x, p.log_floor, p.dim, p.eps);
}

Problem Make(NormalizeKind kind, DType dtype, int32_t rows, int32_t heads, int32_t dim,
             uint64_t seed) {
  Random random(seed);
  const int64_t count = int64_t{rows} * heads;
  Problem p = {.dtype = dtype,
               .kind = kind,
               .rows = rows,
               .heads = heads,
               .dim = dim,
               .eps = 1e-6F,
               .padding = 0,
               .v = random.Normals(count * dim, 2.0, dtype),
               .x = random.Normals(count * (dim + kNormalizerTile), 2.0, dtype),
               .log_floor = {}};
  if (kind == NormalizeKind::kMlstm) {
    p.log_floor = random.Normals(count);
    return p;
  }
  // The sum of positive features.
  const int64_t width = dim + kNormalizerTile;
  for (int64_t at = dim; at < count * width; at += width) p.x[at] = std::abs(p.x[at]) + 0.25F;
  p.x = Rounded(p.x, dtype);
  return p;
}

class NormalizerTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, NormalizerTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(NormalizerRef, ByHand) {
  const std::vector<float> padded = ref::PadValues({3, 4}, 1);
  ASSERT_EQ(padded.size(), 34U);
  EXPECT_EQ(padded[0], 3);
  EXPECT_EQ(padded[1], 1);
  EXPECT_EQ(padded[2], 0);
  EXPECT_EQ(padded[17], 4);
  EXPECT_EQ(padded[18], 1);
  std::vector<float> x(17);
  x[0] = 6;
  x[1] = -2;
  EXPECT_DOUBLE_EQ(ref::Normalize(NormalizeKind::kSum, x, {}, 1, 1)[0], -6);
  EXPECT_DOUBLE_EQ(ref::Normalize(NormalizeKind::kMlstm, x, {0}, 1, 1)[0], 2);
  EXPECT_DOUBLE_EQ(ref::Normalize(NormalizeKind::kMlstm, x, {std::log(5.0F)}, 1, 1)[0],
                   6 / (std::exp(double{std::log(5.0F)}) + 1));
}

constexpr struct {
  int32_t rows;
  int32_t heads;
  int32_t dim;
  int64_t padding;
} kShapes[] = {{1, 1, 8, 0},    {3, 2, 16, 8},  {5, 4, 24, 16},   {64, 1, 64, 0},
               {33, 3, 128, 0}, {2, 4, 512, 8}, {130, 16, 32, 40}};

TEST_P(NormalizerTest, PadsAsTheOracle) {
  uint64_t seed = 800;
  for (const auto& shape : kShapes) {
    for (const DType dtype : ActivationTypes()) {
      SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " " << shape.rows << "x" << shape.heads
                                      << "x" << shape.dim);
      Problem p = Make(NormalizeKind::kSum, dtype, shape.rows, shape.heads, shape.dim, ++seed);
      p.padding = shape.padding;
      EXPECT_TRUE(SameBits(Padded(device(), p), ref::PadValues(p.v, p.dim)));
    }
  }
}

TEST_P(NormalizerTest, NormalizesAsTheOracle) {
  uint64_t seed = 820;
  for (const auto& shape : kShapes) {
    for (const NormalizeKind kind : {NormalizeKind::kSum, NormalizeKind::kMlstm}) {
      for (const DType dtype : ActivationTypes()) {
        SCOPED_TRACE(testing::Message()
                     << DTypeName(dtype) << " kind " << static_cast<int>(kind) << " " << shape.rows
                     << "x" << shape.heads << "x" << shape.dim);
        const Problem p = Make(kind, dtype, shape.rows, shape.heads, shape.dim, ++seed);
        EXPECT_TRUE(EachNear(Normalized(device(), p), WantNormalized(p),
                             dtype == DType::kFloat32 ? 2e-6 : 4e-3, 1e-30));
      }
    }
  }
}

TEST_P(NormalizerTest, IsStableFarOut) {
  Problem p = Make(NormalizeKind::kMlstm, DType::kFloat32, 6, 1, 8, 840);
  p.eps = 0;
  p.log_floor = {-1e4, -1e4, 1e4, 1e4, 0, -80};
  const int64_t width = p.dim + kNormalizerTile;
  p.x[0 * width + p.dim] = 0;
  p.x[1 * width + p.dim] = -2;
  p.x[2 * width + p.dim] = 1e30F;
  p.x[5 * width + p.dim] = 0;
  std::vector<double> want = WantNormalized(p);
  EXPECT_TRUE(EachNear(Normalized(device(), p), want, 1e-5, 0));
  EXPECT_EQ(want[0], 0);
  EXPECT_EQ(want[16], 0);
  p.kind = NormalizeKind::kSum;
  EXPECT_EQ(Part(Normalized(device(), p), 0, 8), std::vector<float>(8));
}

TEST_P(NormalizerTest, ARowDoesNotDependOnItsBatch) {
  const Problem p = Make(NormalizeKind::kMlstm, ActivationTypes().back(), 19, 3, 40, 841);
  const std::vector<float> all = Normalized(device(), p);
  for (const int32_t row : {0, 9, 18}) {
    Problem one = p;
    one.rows = 1;
    one.x = Part(p.x, row * 3 * 56, 3 * 56);
    one.log_floor = Part(p.log_floor, row * 3, 3);
    EXPECT_TRUE(SameBits(Normalized(device(), one), Part(all, row * 120, 120))) << row;
  }
}

TEST(NormalizerThreads, GiveTheSameBits) {
  const Problem p = Make(NormalizeKind::kMlstm, DType::kFloat32, 67, 4, 256, 842);
  EXPECT_TRUE(SameBits(Normalized(*CreateCpuDevice(1), p), Normalized(*CreateCpuDevice(2), p)));
  EXPECT_TRUE(SameBits(Padded(*CreateCpuDevice(1), p), Padded(*CreateCpuDevice(2), p)));
}

using NormalizerDeathTest = NormalizerTest;
INSTANTIATE_TEST_SUITE_P(Devices, NormalizerDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(NormalizerDeathTest, RefusesWhatBreaksALimit) {
  const Problem good = Make(NormalizeKind::kMlstm, DType::kFloat32, 1, 1, 8, 843);
  Normalized(device(), good);
  Problem bad = good;
  bad.eps = -1;
  EXPECT_DEATH(Normalized(device(), bad), kCheckFailed);
  bad = good;
  bad.log_floor.clear();
  EXPECT_DEATH(Normalized(device(), bad), kCheckFailed);
  bad = good;
  bad.padding = -8;
  EXPECT_DEATH(Padded(device(), bad), kCheckFailed);
  bad = Make(NormalizeKind::kSum, DType::kFloat32, 1, 1, 12, 844);
  EXPECT_DEATH(Normalized(device(), bad), kCheckFailed);
  EXPECT_DEATH(Padded(device(), bad), kCheckFailed);
  if (!is_cuda()) {
    bad = Make(NormalizeKind::kSum, DType::kBFloat16, 1, 1, 8, 845);
    EXPECT_DEATH(Normalized(device(), bad), kCheckFailed);
    EXPECT_DEATH(Padded(device(), bad), kCheckFailed);
  }
}

}  // namespace
}  // namespace sluice
