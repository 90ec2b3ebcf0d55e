// The arithmetic of norm.h in a kernel, whoever has the numbers: the same order gives the same
// bits.
//
// Each pack is summed by AddPack from 0 on, the packs of a run by WarpReduce, and the runs in their
// order.
#pragma once

#include <cstdint>

#include "kernels/norm.h"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

constexpr int32_t kNormRun = kWarp * kPack;  // numbers

// Adds the numbers, or their squares, each less the mean.
__device__ inline float AddPack(const Pack& pack, float mean, bool squares, float sum) {
#pragma unroll
  for (float value : pack.v) {
    value -= mean;
    sum = fmaf(value, squares ? value : 1.0F, sum);
  }
  return sum;
}

__device__ inline float InverseRoot(float mean_square, const NormArgs& args) {
  return 1.0F / sqrtf(mean_square + args.eps);
}

// A number before the bias and the gate.
__device__ inline float Normed(float value, float mean, float inverse, float weight) {
  return (value - mean) * inverse * weight;
}

// Ends the process unless the limits that NormArgs states are kept.
void CheckNorm(const NormArgs& args);

}  // namespace sluice
