// The arithmetic of log_gate.h in a kernel, whoever has the numbers: the same order gives the same
// bits.
#pragma once

#include <cstdint>

#include "kernels/activation.cuh"
#include "kernels/log_gate.h"
#include "kernels/pack.cuh"

namespace sluice {

// Adds the next four products of a channel.
__device__ inline float AddProducts(float sum, float4 x, float4 weight) {
  sum = fmaf(x.x, weight.x, sum);
  sum = fmaf(x.y, weight.y, sum);
  sum = fmaf(x.z, weight.z, sum);
  return fmaf(x.w, weight.w, sum);
}

// All of them: of a row of the low-rank activation, 16-byte aligned, with the channel's weights.
template <typename T>
__device__ inline float SumProducts(const T* x, const float* weight, int32_t rank) {
  float sum = 0.0F;
#pragma unroll 2  // What a rank of 16 has to wait for is asked for at once.
  for (int32_t j = 0; j < rank; j += kPack) {
    const Pack p = LoadPack(x + j);
    sum = AddProducts(sum, make_float4(p.v[0], p.v[1], p.v[2], p.v[3]), LoadQuad(weight + j));
    sum = AddProducts(sum, make_float4(p.v[4], p.v[5], p.v[6], p.v[7]), LoadQuad(weight + j + 4));
  }
  return sum;
}

// The gate of a channel by the sum of its products. `factor` is 1 / normalizer.
__device__ inline float LogGateOf(float sum, float bias, float factor, float clamp_min) {
  return fmaxf(LogSigmoid(sum + bias) * factor, clamp_min);
}

// Ends the process unless the limits that LogGateArgs states are kept.
void CheckLogGate(const LogGateArgs& args);

}  // namespace sluice
