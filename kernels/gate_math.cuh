// Functions of gates in a kernel, stable for every finite argument.
#pragma once

namespace sluice {

// log(1 + exp(x)). That of -x, negated, is log(sigmoid(x)). The sum takes in no product of log1pf,
// so that every kernel gets the same bits.
__device__ inline float Log1pExp(float x) {
  return __fadd_rn(fmaxf(x, 0.0F), log1pf(expf(-fabsf(x))));
}

// cap * tanh(x / cap), or x if `cap` is zero. The product is never part of a fused sum.
__device__ inline float SoftCapped(float x, float cap) {
  return cap == 0.0F ? x : __fmul_rn(cap, tanhf(x / cap));
}

}  // namespace sluice
