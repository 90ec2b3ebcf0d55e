// Integers that order as floats do, and candidates for an arg max: the largest number, the lowest
// token among equals. A maximum of integers does not depend on the order in which it is taken.
#pragma once

#include <cstdint>

namespace sluice {

// Zero is less than any; negative zero equals zero. NaN is not expected.
__device__ inline uint32_t OrderedKey(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0F);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}
__device__ inline float FromOrderedKey(uint32_t key) {
  return __uint_as_float((key >> 31) != 0 ? key & 0x7FFFFFFFU : ~key);
}

// Greater than zero.
__device__ inline unsigned long long CandidateKey(float x, int32_t token) {
  return static_cast<unsigned long long>(OrderedKey(x)) << 32 | ~static_cast<uint32_t>(token);
}
__device__ inline int32_t TokenOf(unsigned long long candidate) {
  return static_cast<int32_t>(~static_cast<uint32_t>(candidate));
}
__device__ inline float ValueOf(unsigned long long candidate) {
  return FromOrderedKey(static_cast<uint32_t>(candidate >> 32));
}

}  // namespace sluice
