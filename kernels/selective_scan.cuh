// The arithmetic of one token of the selective scan, which decode rows and chunks share.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/selective_scan.h"

namespace sluice {

// 2^x for x <= 0, to 2^-22; results below the normal numbers are zero.
__device__ inline float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A in units of powers of two, finite always.
__device__ inline float LogDecay(float a_log) {
  return -1.44269504089F * expf(fminf(a_log, kMaxScanLogA));
}

// e^x for x <= 0, to 2^-22 and to the rounding of x / log(2); the smallest results are subnormal.
__device__ inline float ExpOfNegative(float x) {
  float y;
  asm("ex2.approx.f32 %0, %1;" : "=f"(y) : "f"(1.44269504089F * x));
  return y;
}

// log(1 + x) for x in [0, 1], to 2e-7 of itself: x times a polynomial, the minimax one of degree 8.
__device__ inline float Log1pOfUnit(float x) {
  float p = 5.232701e-3F;
  p = fmaf(p, x, -2.9505279e-2F);
  p = fmaf(p, x, 7.8226044e-2F);
  p = fmaf(p, x, -0.13663258F);
  p = fmaf(p, x, 0.19106014F);
  p = fmaf(p, x, -0.24842985F);
  p = fmaf(p, x, 0.33319098F);
  p = fmaf(p, x, -0.49999493F);
  p = fmaf(p, x, 0.99999994F);
  return p * x;
}

// log(1 + e^x) without a branch, so that tokens' steps are computed side by side.
__device__ inline float Softplus(float x) {
  return fmaxf(x, 0.0F) + Log1pOfUnit(ExpOfNegative(-fabsf(x)));
}

// Moves kStates states of a channel one token on and returns their part of C h.
template <int kStates>
__device__ inline float StepStates(const float* a, float2 step, const float* b, const float* c,
                                   float* h) {
  float sum = 0.0F;
#pragma unroll
  for (int j = 0; j < kStates; ++j) {
    h[j] = fmaf(Exp2(step.x * a[j]), h[j], step.y * b[j]);
    sum = fmaf(c[j], h[j], sum);
  }
  return sum;
}

// What a channel has besides its states.
struct ChannelTerms {
  float dt_bias;
  float skip;
  bool has_gate;

  // The step, and the step times x.
  __device__ float2 Step(float dt, float x) const {
    const float step = Softplus(dt + dt_bias);
    return make_float2(step, step * x);
  }
  __device__ float Output(float sum, float x, float gate) const {
    const float y = fmaf(skip, x, sum);
    return has_gate ? y * __fdividef(gate, 1.0F + __expf(-gate)) : y;
  }
};

__device__ inline ChannelTerms TermsOf(const SelectiveScanArgs& args, int32_t channel) {
  return {.dt_bias = args.dt_bias == nullptr ? 0.0F : args.dt_bias[channel],
          .skip = args.skip == nullptr ? 0.0F : args.skip[channel],
          .has_gate = args.gate != nullptr};
}

// The segments of a batch.
void SelectiveScanChunks(const SelectiveScanArgs& args, cudaStream_t stream);

}  // namespace sluice
