#include "kernels/gated_unit.h"

#include "kernels/check.h"
#include "kernels/cpu_ops.h"
#include "kernels/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/gated_unit_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

void GatedUnitRow(const float* gate, const float* up, int64_t dim, float* out) {
  ForVectors(dim, [&](auto d, int64_t i) HWY_ATTR {
    const auto activated = Activated<Activation::kSilu>(d, hn::LoadU(d, gate + i));
    hn::StoreU(hn::Mul(activated, hn::LoadU(d, up + i)), d, out + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(GatedUnitRow);

void GatedUnitCpu(const GatedUnitArgs& args, ThreadPool& pool) {
  SLUICE_CHECK(args.dtype == DType::kFloat32);
  SLUICE_CHECK(args.rows >= 0);
  SLUICE_CHECK(args.dim > 0 && args.dim % 8 == 0);
  const int64_t dim = args.dim;
  const float* x = static_cast<const float*>(args.x);
  float* out = static_cast<float*>(args.out);
  pool.Ranges(args.rows, kElementGrain / dim, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* gate = x + row * 2 * dim;
      HWY_DYNAMIC_DISPATCH(GatedUnitRow)(gate, gate + dim, dim, out + row * dim);
    }
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
