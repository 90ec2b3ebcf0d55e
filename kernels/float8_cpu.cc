#include "kernels/float8_cpu.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/float8_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// FromFloat8, in vectors.
template <class D>
HWY_INLINE hn::Vec<D> LoadFloat8(D d, const uint8_t* from) {
  const hn::Rebind<uint8_t, D> d8;
  const hn::Rebind<uint32_t, D> d32;
  const auto codes = hn::PromoteTo(d32, hn::LoadU(d8, from));
  const auto rest = hn::And(codes, hn::Set(d32, 0x7FU));
  const auto sign = hn::ShiftLeft<24>(hn::And(codes, hn::Set(d32, 0x80U)));
  const auto subnormal = hn::Lt(rest, hn::Set(d32, 8U));
  const auto lent = hn::IfThenElseZero(subnormal, hn::Set(d32, 121U << 23));
  const auto exponents = hn::IfThenElse(subnormal, lent, hn::Set(d32, 120U << 23));
  const auto magnitude = hn::BitCast(d, hn::Add(hn::ShiftLeft<20>(rest), exponents));
  return hn::Or(hn::Sub(magnitude, hn::BitCast(d, lent)), hn::BitCast(d, sign));
}

void WidenToBFloat16(const uint8_t* codes, int64_t count, float scale, uint16_t* to) {
  ForVectors(count, [&](auto d, int64_t i) HWY_ATTR {
    StoreBFloat16(d, hn::Mul(LoadFloat8(d, codes + i), hn::Set(d, scale)), to + i);
  });
}

void WidenToFloat32(const uint8_t* codes, int64_t count, float scale, float* to) {
  ForVectors(count, [&](auto d, int64_t i) HWY_ATTR {
    hn::StoreU(hn::Mul(LoadFloat8(d, codes + i), hn::Set(d, scale)), d, to + i);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace sluice
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace sluice {

HWY_EXPORT(WidenToBFloat16);
HWY_EXPORT(WidenToFloat32);

void WidenFloat8(const uint8_t* codes, int64_t count, float scale, uint16_t* bfloat16) {
  HWY_DYNAMIC_DISPATCH(WidenToBFloat16)(codes, count, scale, bfloat16);
}

void WidenFloat8(const uint8_t* codes, int64_t count, float scale, float* to) {
  HWY_DYNAMIC_DISPATCH(WidenToFloat32)(codes, count, scale, to);
}

}  // namespace sluice
#endif  // HWY_ONCE
