// Float8 numbers (float8.h) in kernels: widened to bfloat16 as they are, their scale left out, with
// what every GPU of compute capability 8.0 has.
#pragma once

#include <cstdint>

namespace sluice {

struct Float8 {
  uint8_t code;
};

// Products of neighbours, rounded: a word holds two bfloat16. Subnormal ones count.
__device__ inline uint32_t MultiplyPair(uint32_t a, uint32_t b) {
  uint32_t product;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;\n" : "=r"(product) : "r"(a), "r"(b), "r"(0x80008000U));
  return product;
}

// Of two codes, each the upper byte of half a word. Their exponents and fractions fit between those
// of a bfloat16, whose number is 2^-120 of theirs, also where it is subnormal.
__device__ inline uint32_t WidenPair(uint32_t halves) {
  constexpr uint32_t kTwo120 = 0x7B807B80U;  // 2^120, twice
  const uint32_t placed = (halves & 0x80008000U) | ((halves >> 4) & 0x07F007F0U);
  return MultiplyPair(placed, kTwo120);
}

// Of the four codes of a word, in their order.
__device__ inline uint2 WidenFour(uint32_t codes) {
  return make_uint2(WidenPair(__byte_perm(codes, 0, 0x1404)),
                    WidenPair(__byte_perm(codes, 0, 0x3424)));
}

// Eight neighbours at `from`, 8-byte aligned.
__device__ inline uint4 LoadEight(const Float8* from) {
  const uint2 codes = *reinterpret_cast<const uint2*>(from);
  const uint2 low = WidenFour(codes.x);
  const uint2 high = WidenFour(codes.y);
  return make_uint4(low.x, low.y, high.x, high.y);
}

}  // namespace sluice
