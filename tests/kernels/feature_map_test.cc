#include "kernels/feature_map.h"

#include <cmath>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/compare.h"
#include "tests/kernels/devices.h"
#include "tests/kernels/feature_map_ref.h"
#include "tests/kernels/guarded_memory.h"
#include "tests/kernels/random_data.h"
#include "tests/kernels/strided.h"

namespace sluice {
namespace {

constexpr FeatureMapKind kKinds[] = {FeatureMapKind::kIdentity, FeatureMapKind::kDpfp,
                                     FeatureMapKind::kHedgehog, FeatureMapKind::kSinCos};

struct Problem {
  DType dtype;
  FeatureMapKind kind;
  int32_t rows;
  int32_t heads;
  int32_t dim;
  float scale;
  float sum_eps;
  int64_t padding;          // between rows of x and of y
  std::vector<float> x;     // [rows, heads, dim]
  std::vector<float> bias;  // [dim] or empty
};

std::vector<float> Mapped(Device& device, const Problem& p) {
  const int64_t x_cols = int64_t{p.heads} * p.dim;
  const int64_t y_cols = int64_t{p.heads} * FeatureDim(p.kind, p.dim);
  const int64_t y_stride = y_cols + p.padding + 8;
  const Input x(device, Spread(p.x, x_cols, x_cols + p.padding), p.dtype);
  const Input bias(device, p.bias);
  const Output y(device, StridedSize(p.rows, y_cols, y_stride) * DTypeBytes(p.dtype));
  device.MapFeatures({.dtype = p.dtype,
                      .kind = p.kind,
                      .rows = p.rows,
                      .heads = p.heads,
                      .dim = p.dim,
                      .x = x.data(),
                      .x_stride = x_cols + p.padding,
                      .bias = bias.as<float>(),
                      .scale = p.scale,
                      .sum_eps = p.sum_eps,
                      .y = y.data(),
                      .y_stride = y_stride});
  const std::vector<float> written = y.Read(p.dtype);
  EXPECT_TRUE(AllPoison(Columns(written, y_cols, p.padding + 8, y_stride)))
      << "written between rows";
  return Columns(written, 0, y_cols, y_stride);
}

std::vector<double> Want(const Problem& p) {
  return ref::FeatureMap(p.kind, p.x, p.bias, p.dim, p.scale, p.sum_eps);
}

Problem Make(FeatureMapKind kind, DType dtype, int32_t rows, int32_t heads, int32_t dim,
             uint64_t seed) {
  Random random(seed);
  return {.dtype = dtype,
          .kind = kind,
          .rows = rows,
          .heads = heads,
          .dim = dim,
          .scale = 1,
          .sum_eps = 0,
          .padding = 0,
          .x = random.Normals(int64_t{rows} * heads * dim, 1.5, dtype),
          .bias = random.Normals(dim, 0.5)};
}

class FeatureMapTest : public DeviceTest {};
INSTANTIATE_TEST_SUITE_P(Devices, FeatureMapTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST(FeatureMapRef, MapsByHand) {
  // u is 2, 0, 0, 3; rolled by one 3, 2, 0, 0; by three 0, 0, 3, 2.
  EXPECT_EQ(ref::FeatureMap(FeatureMapKind::kDpfp, {2, -3}, {}, 2, 1, 0),
            std::vector<double>({6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6, 4, 0, 0, 9}));
  // The weights of 2 log 2 and of minus that: 4 and 1/4.
  const std::vector<double> soft =
      ref::FeatureMap(FeatureMapKind::kHedgehog, {0}, {std::log(2.0F)}, 1, 1, 0);
  EXPECT_NEAR(soft[0], 16.0 / 17, 1e-7);
  EXPECT_NEAR(soft[1], 1.0 / 17, 1e-7);
  EXPECT_EQ(ref::FeatureMap(FeatureMapKind::kSinCos, {0}, {}, 1, 3, 0),
            std::vector<double>({0, 3}));
  EXPECT_EQ(ref::FeatureMap(FeatureMapKind::kIdentity, {1, 2}, {1, 0}, 2, 2, 2),
            std::vector<double>({0.4, 0.4}));
}

TEST_P(FeatureMapTest, MapsByHand) {
  const std::vector<float> x = {1, -2, 3, 4, 0, -5, 0, 6};
  Problem p = {DType::kFloat32, FeatureMapKind::kDpfp, 1, 1, 8, 1, 0, 0, x, {}};
  // u is 1 0 3 4 0 0 0 6 | 0 2 0 0 0 5 0 0, and the first of each roll comes from its end.
  const std::vector<float> y = Mapped(device(), p);
  EXPECT_EQ(Part(y, 0, 16), std::vector<float>({0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Part(y, 16, 16), std::vector<float>({0, 0, 3, 0, 0, 0, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Part(y, 32, 16), std::vector<float>({5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(Part(y, 48, 16),
            std::vector<float>({0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 10, 0, 0}));
  p.kind = FeatureMapKind::kIdentity;
  EXPECT_EQ(Mapped(device(), p), x);
  p.kind = FeatureMapKind::kHedgehog;
  p.x.assign(8, 0);
  EXPECT_TRUE(EachNear(Mapped(device(), p), std::vector<double>(16, 1.0 / 16), 1e-6, 0));
  p.kind = FeatureMapKind::kSinCos;
  p.scale = 3;
  EXPECT_EQ(Mapped(device(), p),
            std::vector<float>({0, 0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3, 3, 3, 3}));
}

TEST_P(FeatureMapTest, AgreesWithTheOracle) {
  constexpr struct {
    int32_t rows;
    int32_t heads;
    int32_t dim;  // at most; the largest that the kind takes if that is less
    int64_t padding;
    float scale;
  } kShapes[] = {{1, 1, 8, 0, 1},    {3, 2, 16, 8, 0.5}, {5, 3, 24, 0, 1},
                 {17, 4, 64, 16, 2}, {65, 1, 128, 0, 1}, {2, 4, 256, 8, 0.25},
                 {3, 2, 512, 0, 1},  {2, 5, 200, 0, 1},  {3, 16, 256, 0, 1}};
  uint64_t seed = 1000;
  for (const auto& shape : kShapes) {
    for (const FeatureMapKind kind : kKinds) {
      for (const DType dtype : ActivationTypes()) {
        int32_t dim = shape.dim;
        while (FeatureDim(kind, dim) > kMaxFeatureDim) dim -= 8;
        SCOPED_TRACE(testing::Message() << DTypeName(dtype) << " kind " << static_cast<int>(kind)
                                        << " " << shape.rows << "x" << shape.heads << "x" << dim);
        Problem p = Make(kind, dtype, shape.rows, shape.heads, dim, ++seed);
        p.padding = shape.padding;
        p.scale = shape.scale;
        if (seed % 3 == 0) p.bias.clear();
        const bool exact = dtype == DType::kFloat32;
        EXPECT_TRUE(EachNear(Mapped(device(), p), Want(p), exact ? 1e-5 : 4e-3, 1e-6));
      }
    }
  }
}

TEST_P(FeatureMapTest, DividesByTheSum) {
  for (const FeatureMapKind kind : {FeatureMapKind::kIdentity, FeatureMapKind::kDpfp}) {
    for (const DType dtype : ActivationTypes()) {
      Problem p = Make(kind, dtype, 9, 3, 40, 1050);
      for (float& x : p.x) x = std::abs(x);
      p.bias.clear();
      p.scale = 0.5;
      p.sum_eps = 0.25;
      const bool exact = dtype == DType::kFloat32;
      EXPECT_TRUE(EachNear(Mapped(device(), p), Want(p), exact ? 1e-5 : 4e-3, 1e-6));
      p.x.assign(p.x.size(), 0);
      EXPECT_EQ(Mapped(device(), p), std::vector<float>(p.rows * 3 * FeatureDim(kind, 40)));
    }
  }
}

TEST_P(FeatureMapTest, IsStableFarOut) {
  for (const FeatureMapKind kind : kKinds) {
    SCOPED_TRACE(static_cast<int>(kind));
    Problem p = Make(kind, DType::kFloat32, 2, 1, 8, 1060);
    p.bias.clear();
    p.x = {-1e4, -1000, -100, -1, 1, 100, 1000, 1e4, 1e4, 0, 0, 0, 0, 0, 0, 9999};
    EXPECT_TRUE(EachNear(Mapped(device(), p), Want(p), 1e-5, 1e-6));
  }
  Problem p = Make(FeatureMapKind::kSinCos, DType::kFloat32, 1, 1, 8, 1061);
  p.bias.clear();
  p.x = {4e4F, -1e5F, 1e6F, 1e8F, -1e12F, 1e30F, 1, 0};
  EXPECT_TRUE(EachNear(Mapped(device(), p), Want(p), 1e-5, 1e-6));
}

TEST_P(FeatureMapTest, ARowDoesNotDependOnItsBatch) {
  for (const FeatureMapKind kind : kKinds) {
    Problem p = Make(kind, ActivationTypes().back(), 19, 3, 40, 1070);
    p.sum_eps = 8;
    const std::vector<float> all = Mapped(device(), p);
    const size_t cols = size_t{3} * FeatureDim(kind, 40);
    for (const int32_t row : {0, 9, 18}) {
      Problem one = p;
      one.rows = 1;
      one.x = Part(p.x, row * 120, 120);
      EXPECT_TRUE(SameBits(Mapped(device(), one), Part(all, row * cols, cols))) << row;
    }
  }
}

TEST(FeatureMapThreads, GiveTheSameBits) {
  for (const FeatureMapKind kind : kKinds) {
    const Problem p = Make(kind, DType::kFloat32, 67, 4, 64, 1080);
    EXPECT_TRUE(SameBits(Mapped(*CreateCpuDevice(1), p), Mapped(*CreateCpuDevice(2), p)));
  }
}

using FeatureMapDeathTest = FeatureMapTest;
INSTANTIATE_TEST_SUITE_P(Devices, FeatureMapDeathTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

TEST_P(FeatureMapDeathTest, RefusesWhatBreaksALimit) {
  const auto dies = [&](FeatureMapKind kind, DType dtype, int32_t dim, float sum_eps) {
    Problem bad = Make(kind, dtype, 1, 1, dim, 1090);
    bad.sum_eps = sum_eps;
    EXPECT_DEATH(Mapped(device(), bad), kCheckFailed);
  };
  dies(FeatureMapKind::kIdentity, DType::kFloat32, 12, 0);
  dies(FeatureMapKind::kIdentity, DType::kFloat32, 520, 0);
  dies(FeatureMapKind::kDpfp, DType::kFloat32, 72, 0);
  dies(FeatureMapKind::kHedgehog, DType::kFloat32, 264, 0);
  dies(FeatureMapKind::kIdentity, DType::kFloat32, 8, -1);
  if (!is_cuda()) dies(FeatureMapKind::kIdentity, DType::kBFloat16, 8, 0);
}

}  // namespace
}  // namespace sluice
