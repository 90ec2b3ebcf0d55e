#include "kernels/feature_map.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/feature_map_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

constexpr int64_t kRolls = 4;

HWY_INLINE float SumOf(const float* x, int64_t count) {
  const EightFloats d;
  auto sum = hn::Zero(d);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    sum = hn::Add(sum, hn::LoadU(d, x + i));
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

HWY_INLINE float LargestMagnitude(const float* x, int64_t count) {
  const EightFloats d;
  auto largest = hn::Zero(d);
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(hn::Lanes(d))) {
    largest = hn::Max(largest, hn::Abs(hn::LoadU(d, x + i)));
  }
  return hn::GetLane(hn::MaxOfLanes(d, largest));
}

HWY_INLINE void ScaleBy(float factor, int64_t count, float* y) {
  ForVectors(count, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(hn::LoadU(d, y + i), hn::Set(d, factor)), d, y + i);
  });
}

HWY_INLINE void MapDpfp(const float* z, int64_t dim, float* y) {
  // The last kRolls numbers of u, then u.
  HWY_ALIGN float rolled[kRolls + kMaxFeatureDim / kRolls];
  float* u = rolled + kRolls;
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, z + i);
    hn::StoreU(hn::Max(value, hn::Zero(d)), d, u + i);
    hn::StoreU(hn::Max(hn::Neg(value), hn::Zero(d)), d, u + dim + i);
  });
  std::copy_n(u + 2 * dim - kRolls, kRolls, rolled);
  for (int64_t j = 1; j <= kRolls; ++j) {
    float* to = y + (j - 1) * 2 * dim;
    ForVectors(2 * dim, [&](auto d, int64_t i) HWY_ATTR {
      hn::StoreU(hn::Mul(hn::LoadU(d, u + i), hn::LoadU(d, u + i - j)), d, to + i);
    });
  }
}

HWY_INLINE void MapHedgehog(const float* z, int64_t dim, float* y) {
  const float largest = 2.0F * LargestMagnitude(z, dim);
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, z + i);
    const auto twice = hn::Add(value, value);
    const auto most = hn::Set(d, largest);
    hn::StoreU(hn::Exp(d, hn::Sub(twice, most)), d, y + i);
    hn::StoreU(hn::Exp(d, hn::Neg(hn::Add(twice, most))), d, y + dim + i);
  });
  ScaleBy(1.0F / SumOf(y, 2 * dim), 2 * dim, y);  // one of the numbers is one
}

HWY_INLINE void MapSinCos(const float* z, int64_t dim, float* y) {
  if (LargestMagnitude(z, dim) > 39000.0F) {  // where Highway's end
    for (int64_t i = 0; i < dim; ++i) {
      y[i] = std::sin(z[i]);
      y[dim + i] = std::cos(z[i]);
    }
    return;
  }
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, z + i);
    hn::StoreU(hn::Sin(d, value), d, y + i);
    hn::StoreU(hn::Cos(d, value), d, y + dim + i);
  });
}

void MapHead(const FeatureMapArgs& args, const float* x, float* y) {
  const int64_t dim = args.dim;
  HWY_ALIGN float z[kMaxFeatureDim];
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto value = hn::LoadU(d, x + i);
    hn::StoreU(args.bias == nullptr ? value : hn::Add(value, hn::LoadU(d, args.bias + i)), d,
               z + i);
  });
  switch (args.kind) {
    case FeatureMapKind::kIdentity:
      std::copy_n(z, dim, y);
      break;
    case FeatureMapKind::kDpfp:
      MapDpfp(z, dim, y);
      break;
    case FeatureMapKind::kHedgehog:
      MapHedgehog(z, dim, y);
      break;
    case FeatureMapKind::kSinCos:
      MapSinCos(z, dim, y);
      break;
  }
  const int64_t features = FeatureDim(args.kind, args.dim);
  if (args.scale != 1.0F) ScaleBy(args.scale, features, y);
  if (args.sum_eps > 0.0F) ScaleBy(1.0F / (SumOf(y, features) + args.sum_eps), features, y);
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(MapHead);

void MapFeaturesCpu(const FeatureMapArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckFeatureMap(args);
  const int64_t features = FeatureDim(args.kind, args.dim);
  const int64_t count = int64_t{args.rows} * args.heads;
  pool.Ranges(count, kElementGrain / 4 / features, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / args.heads;
      const int64_t head = i % args.heads;
      const float* x = static_cast<const float*>(args.x) + row * args.x_stride + head * args.dim;
      float* y = static_cast<float*>(args.y) + row * args.y_stride + head * features;
      HWY_DYNAMIC_DISPATCH(MapHead)(args, x, y);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
