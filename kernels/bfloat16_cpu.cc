#include "kernels/bfloat16_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/bfloat16_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

void Widen(const uint16_t* from, int64_t count, float* to) {
  ForVectors(count,
             [&](auto d, int64_t i) HWY_ATTR { hn::StoreU(LoadBFloat16(d, from + i), d, to + i); });
}

void Round(const float* from, int64_t count, uint16_t* to) {
  ForVectors(count,
             [&](auto d, int64_t i) HWY_ATTR { StoreBFloat16(d, hn::LoadU(d, from + i), to + i); });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(Widen);
HWY_EXPORT(Round);

void WidenBFloat16(const uint16_t* from, int64_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(Widen)(from, count, to);
}

void RoundToBFloat16(const float* from, int64_t count, uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(Round)(from, count, to);
}

}  // namespace sluice
#endif  // HWY_ONCE
