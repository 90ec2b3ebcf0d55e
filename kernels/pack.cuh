// Loads and stores of eight and of two numbers at a time, converted to and from float32, and the
// choice of a kernel's number format.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/check.h"
#include "kernels/dtype.h"

namespace sluice {

constexpr int kPack = 8;  // numbers

struct Pack {
  float v[kPack];
};

__device__ inline float ToFloat(float x) { return x; }
__device__ inline float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }

template <typename T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Two bfloat16 in one word, `low` at the lower address.
__device__ inline uint32_t PackWord(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ inline float2 UnpackWord(uint32_t word) {
  return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xFFFF0000U));
}

// `p` is 16-byte aligned.
__device__ inline Pack LoadPack(const float* p) {
  const float4 a = reinterpret_cast<const float4*>(p)[0];
  const float4 b = reinterpret_cast<const float4*>(p)[1];
  return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
}
__device__ inline Pack LoadPack(const __nv_bfloat16* p) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p);
  const float2 a = UnpackWord(raw.x);
  const float2 b = UnpackWord(raw.y);
  const float2 c = UnpackWord(raw.z);
  const float2 d = UnpackWord(raw.w);
  return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
}
__device__ inline void StorePack(float* p, const Pack& x) {
  reinterpret_cast<float4*>(p)[0] = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  reinterpret_cast<float4*>(p)[1] = make_float4(x.v[4], x.v[5], x.v[6], x.v[7]);
}
__device__ inline void StorePack(__nv_bfloat16* p, const Pack& x) {
  *reinterpret_cast<uint4*>(p) = make_uint4(PackWord(x.v[0], x.v[1]), PackWord(x.v[2], x.v[3]),
                                            PackWord(x.v[4], x.v[5]), PackWord(x.v[6], x.v[7]));
}

// Four numbers; `p` is aligned to them.
__device__ inline float4 LoadQuad(const float* p) { return *reinterpret_cast<const float4*>(p); }
__device__ inline float4 LoadQuad(const __nv_bfloat16* p) {
  const uint2 raw = *reinterpret_cast<const uint2*>(p);
  const float2 a = UnpackWord(raw.x);
  const float2 b = UnpackWord(raw.y);
  return make_float4(a.x, a.y, b.x, b.y);
}

__device__ inline void StoreQuad(float* p, float4 x) { *reinterpret_cast<float4*>(p) = x; }
__device__ inline void StoreQuad(__nv_bfloat16* p, float4 x) {
  *reinterpret_cast<uint2*>(p) = make_uint2(PackWord(x.x, x.y), PackWord(x.z, x.w));
}

// sum + a * x
__device__ inline float4 Add(float4 sum, float a, float4 x) {
  return make_float4(fmaf(a, x.x, sum.x), fmaf(a, x.y, sum.y), fmaf(a, x.z, sum.z),
                     fmaf(a, x.w, sum.w));
}

__device__ inline float4 Times(float4 x, float4 y) {
  return make_float4(x.x * y.x, x.y * y.y, x.z * y.z, x.w * y.w);
}

// Two numbers; `p` is aligned to them.
__device__ inline float2 LoadPair(const float* p) { return *reinterpret_cast<const float2*>(p); }
__device__ inline float2 LoadPair(const __nv_bfloat16* p) {
  return UnpackWord(*reinterpret_cast<const uint32_t*>(p));
}
__device__ inline void StorePair(float* p, float2 x) { *reinterpret_cast<float2*>(p) = x; }
__device__ inline void StorePair(__nv_bfloat16* p, float2 x) {
  *reinterpret_cast<uint32_t*>(p) = PackWord(x.x, x.y);
}

// Calls launch(float{}) or launch(__nv_bfloat16{}), once an op, in its launcher.
template <typename Launch>
void DispatchDType(DType dtype, Launch launch) {
  SLUICE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  if (dtype == DType::kFloat32) {
    launch(float{});
  } else {
    launch(__nv_bfloat16{});
  }
}

}  // namespace sluice
