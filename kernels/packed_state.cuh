// 16 bytes of a row of a state's matrix in each format (state_format.h), to and from float32.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/state_format.h"

namespace sluice {

// Numbers in 16 bytes.
template <StateType kType>
constexpr int kPackedNumbers = 16 / static_cast<int>(StateTypeBytes(kType));

template <StateType kType>
struct Unpacked {
  float v[kPackedNumbers<kType>];
};

// Four int8. Each, 128 added, becomes the last bits of a float32 of 2^23 and more.
__device__ inline float4 UnpackInt8(uint32_t word) {
  constexpr uint32_t kExponent = 0x4B000000;
  constexpr float kOffset = 8388608.0F + 128.0F;
  const uint32_t biased = word ^ 0x80808080U;
  return make_float4(__uint_as_float(__byte_perm(biased, kExponent, 0x7440)) - kOffset,
                     __uint_as_float(__byte_perm(biased, kExponent, 0x7441)) - kOffset,
                     __uint_as_float(__byte_perm(biased, kExponent, 0x7442)) - kOffset,
                     __uint_as_float(__byte_perm(biased, kExponent, 0x7443)) - kOffset);
}

// To nearest, of numbers that `inverse` brings into [-127, 127]: beside 1.5 * 2^23 the last bit of
// a float32 is 1.
__device__ inline uint32_t PackInt8(float4 x, float inverse) {
  constexpr float kOffset = 12582912.0F;
  const uint32_t a = __float_as_uint(fmaf(x.x, inverse, kOffset));
  const uint32_t b = __float_as_uint(fmaf(x.y, inverse, kOffset));
  const uint32_t c = __float_as_uint(fmaf(x.z, inverse, kOffset));
  const uint32_t d = __float_as_uint(fmaf(x.w, inverse, kOffset));
  return __byte_perm(__byte_perm(a, b, 0x0040), __byte_perm(c, d, 0x0040), 0x5410);
}

__device__ inline float2 UnpackFloat16(uint32_t word) {
  return __half22float2(*reinterpret_cast<const __half2*>(&word));
}

// To nearest, saturating: never infinite, and what is no number stays none.
__device__ inline uint32_t PackFloat16(float low, float high) {
  uint32_t word;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// Without the scale of an int8 row.
template <StateType kType>
__device__ inline Unpacked<kType> UnpackNumbers(uint4 raw) {
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
  Unpacked<kType> x;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (kType == StateType::kFloat32) {
      x.v[w] = __uint_as_float(words[w]);
    } else if constexpr (kType == StateType::kFloat16) {
      const float2 pair = UnpackFloat16(words[w]);
      x.v[2 * w] = pair.x;
      x.v[2 * w + 1] = pair.y;
    } else {
      const float4 four = UnpackInt8(words[w]);
      x.v[4 * w] = four.x;
      x.v[4 * w + 1] = four.y;
      x.v[4 * w + 2] = four.z;
      x.v[4 * w + 3] = four.w;
    }
  }
  return x;
}

// `inverse` is one over the scale of an int8 row.
template <StateType kType>
__device__ inline uint4 PackNumbers(const Unpacked<kType>& x, float inverse) {
  uint32_t words[4];
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if constexpr (kType == StateType::kFloat32) {
      words[w] = __float_as_uint(x.v[w]);
    } else if constexpr (kType == StateType::kFloat16) {
      words[w] = PackFloat16(x.v[2 * w], x.v[2 * w + 1]);
    } else {
      words[w] = PackInt8(make_float4(x.v[4 * w], x.v[4 * w + 1], x.v[4 * w + 2], x.v[4 * w + 3]),
                          inverse);
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Of magnitudes the larger one has the larger bits, and what is no number the largest.
__device__ inline uint32_t MagnitudeBits(float x) { return __float_as_uint(fabsf(x)); }

// The scale of an int8 row of this largest magnitude, and one over it: 0 for rows of zeros.
__device__ inline float ScaleOfRow(float largest) {
  const float scale = largest / kMaxInt8;
  return scale < kMinStateScale ? 0.0F : scale;
}
__device__ inline float InverseOfScale(float scale) { return scale == 0.0F ? 0.0F : 1.0F / scale; }

// Tokens in the ring of a head: `count` of its HeadState.
__device__ inline int32_t HeldIn(const float* count) {
  return *reinterpret_cast<const int32_t*>(count);
}

}  // namespace sluice
