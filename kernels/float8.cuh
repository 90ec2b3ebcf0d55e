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

// Two codes of a word, 0 and 1 or 2 and 3, in their order. Extended by their signs to half a word
// and moved by four bits, a code's exponent and fraction lie where those of a bfloat16 do whose
// number is 2^-120 of theirs, also where it is subnormal, and its sign is there as well.
template <int kFirst>
__device__ inline uint32_t WidenPair(uint32_t codes) {
  static_assert(kFirst == 0 || kFirst == 2);
  constexpr uint32_t kTwo120 = 0x7B807B80U;  // 2^120, twice
  uint32_t extended;
  asm("prmt.b32 %0, %1, 0, %2;\n"
      : "=r"(extended)
      : "r"(codes), "n"(kFirst == 0 ? 0x9180 : 0xB3A2));
  return MultiplyPair((extended << 4) & 0x87F087F0U, kTwo120);
}

// Of the four codes of a word, in their order.
__device__ inline uint2 WidenFour(uint32_t codes) {
  return make_uint2(WidenPair<0>(codes), WidenPair<2>(codes));
}

// Eight neighbours at `from`, 8-byte aligned.
__device__ inline uint4 LoadEight(const Float8* from) {
  const uint2 codes = *reinterpret_cast<const uint2*>(from);
  const uint2 low = WidenFour(codes.x);
  const uint2 high = WidenFour(codes.y);
  return make_uint4(low.x, low.y, high.x, high.y);
}

}  // namespace sluice
