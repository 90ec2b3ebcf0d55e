#include "kernels/normalizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/normalizer_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

void DivideBy(float divisor, const float* x, int64_t count, float* y) {
  ForVectors(count, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Div(hn::LoadU(d, x + i), hn::Set(d, divisor)), d, y + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(DivideBy);

namespace {

// `head` counts over all rows.
void NormalizeHead(const NormalizeArgs& args, int64_t head) {
  const int64_t dim = args.dim;
  const float* x = static_cast<const float*>(args.x) + head * (dim + kNormalizerTile);
  float* y = static_cast<float*>(args.y) + head * dim;
  float divisor = x[dim];
  if (args.kind == NormalizeKind::kMlstm) {
    divisor = std::max(std::abs(divisor), std::exp(args.log_floor[head]));
  }
  divisor += args.eps;
  if (divisor == 0.0F) {
    std::fill_n(y, dim, 0.0F);
  } else {
    HWY_DYNAMIC_DISPATCH(DivideBy)(divisor, x, dim, y);
  }
}

}  // namespace

void PadValuesCpu(const PadValuesArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckPadValues(args);
  const int64_t dim = args.dim;
  const int64_t count = int64_t{args.rows} * args.heads;
  pool.Ranges(count, kElementGrain / dim, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      const float* v = static_cast<const float*>(args.v) + head / args.heads * args.v_stride +
                       head % args.heads * dim;
      float* out = static_cast<float*>(args.out) + head * (dim + kNormalizerTile);
      std::fill_n(std::copy_n(v, dim, out), kNormalizerTile, 0.0F);
      out[dim] = 1.0F;
    }
  });
}

void NormalizeCpu(const NormalizeArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckNormalize(args);
  const int64_t count = int64_t{args.rows} * args.heads;
  pool.Ranges(count, kElementGrain / args.dim, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) NormalizeHead(args, head);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
