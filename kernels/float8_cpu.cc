#include "kernels/float8_cpu.h"

#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/float8_cpu.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace sluice {
namespace HWY_NAMESPACE {

// The numbers of codes, none of which is NaN. A subnormal is lent 2^-6 and gives it back, which
// leaves it normalised.
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

// Of a row: the numbers of a subnormal's codes, times the scale, and what is added to the exponent
// and fraction of any other code, moved to their places.
struct BFloat16Row {
  explicit BFloat16Row(float scale) {
    const auto power = static_cast<uint16_t>((std::bit_cast<uint32_t>(scale) >> 23) - 127) << 7;
    constexpr uint16_t kSubnormals[8] = {0, 0x3B00, 0x3B80, 0x3BC0, 0x3C00, 0x3C20, 0x3C40, 0x3C60};
    for (int i = 1; i < 8; ++i) subnormals[i] = static_cast<uint16_t>(kSubnormals[i] + power);
    exponents = static_cast<uint16_t>((120 << 7) + power);
  }
  alignas(16) uint16_t subnormals[8] = {};
  uint16_t exponents;
};

// All in integers of sixteen bits, of which there are most in a vector.
template <class D>
HWY_INLINE void WidenVector(D d, const BFloat16Row& row, const uint8_t* codes, uint16_t* to) {
  const auto all = hn::PromoteTo(d, hn::LoadU(hn::Rebind<uint8_t, D>(), codes));
  const auto rest = hn::And(all, hn::Set(d, uint16_t{0x7F}));
  const auto sign = hn::ShiftLeft<8>(hn::Xor(all, rest));
  const auto normal = hn::Add(hn::ShiftLeft<4>(rest), hn::Set(d, row.exponents));
  // Bytes 2i and 2i + 1 of the table.
  const auto twice = hn::ShiftLeft<1>(hn::And(rest, hn::Set(d, uint16_t{7})));
  const auto bytes = hn::Or(twice, hn::Or(hn::ShiftLeft<8>(twice), hn::Set(d, uint16_t{0x100})));
  const auto subnormal = hn::TableLookupBytes(hn::LoadDup128(d, row.subnormals), bytes);
  const auto is_subnormal = hn::Lt(rest, hn::Set(d, uint16_t{8}));
  hn::StoreU(hn::Or(sign, hn::IfThenElse(is_subnormal, subnormal, normal)), d, to);
}

void WidenToBFloat16(const uint8_t* codes, int64_t count, float scale, uint16_t* to) {
  const hn::CappedTag<uint16_t, 32> d;
  const hn::CappedTag<uint16_t, 8> d8;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const BFloat16Row row(scale);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) WidenVector(d, row, codes + i, to + i);
  for (; i < count; i += 8) WidenVector(d8, row, codes + i, to + i);
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
