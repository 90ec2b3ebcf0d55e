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

void GatedUnitRow(const GatedUnitArgs& args, int64_t row) {
  const float* gate = static_cast<const float*>(args.gate) + row * args.gate_stride;
  const float* up = static_cast<const float*>(args.up);
  if (up != nullptr) up += row * args.up_stride;
  float* out = static_cast<float*>(args.out) + row * args.out_stride;
  WithActivation(args.act, [&](auto constant) HWY_ATTR {
    constexpr Activation kAct = decltype(constant)::value;
    ForVectors(args.dim, [&](auto d, int64_t i) HWY_ATTR {
      auto value = Activated<kAct>(d, hn::LoadU(d, gate + i));
      if (up != nullptr) value = hn::Mul(value, hn::LoadU(d, up + i));
      if (args.accumulate) value = hn::Add(value, hn::LoadU(d, out + i));
      hn::StoreU(value, d, out + i);
    });
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
  SLUICE_CHECK(args.act != Activation::kSoftCap);
  SLUICE_CHECK(args.gate_stride >= args.dim && args.out_stride >= args.dim);
  SLUICE_CHECK(args.up == nullptr || args.up_stride == 0 || args.up_stride >= args.dim);
  pool.Ranges(args.rows, kElementGrain / args.dim, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) HWY_DYNAMIC_DISPATCH(GatedUnitRow)(args, row);
  });
}

}  // namespace sluice
#endif  // HWY_ONCE
