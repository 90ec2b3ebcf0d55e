// The arithmetic of log_gate.h in a kernel, whoever has the numbers: the same order gives the same
// bits.
#pragma once

#include "kernels/activation.cuh"
#include "kernels/log_gate.h"

namespace sluice {

// Adds the next four products of a channel.
__device__ inline float AddProducts(float sum, float4 x, float4 weight) {
  sum = fmaf(x.x, weight.x, sum);
  sum = fmaf(x.y, weight.y, sum);
  sum = fmaf(x.z, weight.z, sum);
  return fmaf(x.w, weight.w, sum);
}

// The gate of a channel by the sum of its products. `factor` is 1 / normalizer.
__device__ inline float LogGateOf(float sum, float bias, float factor, float clamp_min) {
  return fmaxf(LogSigmoid(sum + bias) * factor, clamp_min);
}

// Ends the process unless the limits that LogGateArgs states are kept.
void CheckLogGate(const LogGateArgs& args);

}  // namespace sluice
