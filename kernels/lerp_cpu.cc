#include "kernels/lerp.h"

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/lerp_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// One mix of one row.
void LerpRow(const LerpArgs& args, int64_t index, int64_t row) {
  const float* x = static_cast<const float*>(args.x) + row * args.x_stride;
  const float* delta = static_cast<const float*>(args.delta) + row * args.dim;
  const float* mu = args.mu;
  if (mu != nullptr) mu += index * args.dim;
  const float* mix = static_cast<const float*>(args.mix);
  if (mix != nullptr) mix += index * args.mix_step + row * args.mix_stride;
  float* y = static_cast<float*>(args.y) + index * args.y_step + row * args.y_stride;
  ForVectors(args.dim, [&](auto d, int64_t i) HWY_ATTR {
    auto amount = mu == nullptr ? hn::Zero(d) : hn::LoadU(d, mu + i);
    if (mix != nullptr) amount = hn::Add(amount, hn::LoadU(d, mix + i));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, delta + i), amount, hn::LoadU(d, x + i)), d, y + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(LerpRow);

void LerpCpu(const LerpArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  CheckLerp(args);
  const int64_t count = int64_t{args.rows} * args.count;
  pool.Ranges(count, kElementGrain / args.dim, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      HWY_DYNAMIC_DISPATCH(LerpRow)(args, i % args.count, i / args.count);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
