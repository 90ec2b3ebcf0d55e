#include "kernels/decay.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gate_math.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

struct Gate {
  float log_decay;
  float complement;   // of kLowerBound
  float input_scale;  // of kLogSigmoid and kSoftplus
};

__device__ Gate ByLogSigmoid(const DecayArgs& args, float z) {
  const float g = fmaxf(-Log1pExp(-z) / args.normalizer, args.clamp_min);
  return {.log_decay = g, .complement = 0.0F, .input_scale = -expm1f(g)};
}

// 1 - exp(g) is u = (1 - lb) sigmoid(-z). Where that is small, g is log(1 - u); elsewhere it is the
// logarithm of a sum of positive numbers, which may underflow only if lb is zero.
__device__ Gate ByLowerBound(float z, float lower) {
  const float e = expf(-fabsf(z));
  const float part = (1.0F - lower) / (1.0F + e);
  const float smaller = __fmul_rn(part, e);  // never part of a fused sum: both widths alike
  const float u = z < 0.0F ? part : smaller;
  const float rest = z < 0.0F ? smaller : part;
  float g = 0.0F;
  if (u < 0.5F) {
    g = log1pf(-u);
  } else if (lower == 0.0F) {
    g = z - log1pf(e);  // z is negative
  } else {
    g = logf(lower + rest);
  }
  return {.log_decay = fminf(g, 0.0F), .complement = u, .input_scale = 0.0F};
}

__device__ Gate BySoftplus(const DecayArgs& args, float z, float a_log) {
  const float dt = fminf(fmaxf(Log1pExp(z), args.dt_min), args.dt_max);
  // Finite, so that a dt of zero gives zero.
  const float rate = expf(fminf(a_log, 88.0F));
  return {.log_decay = -(dt * rate), .complement = 0.0F, .input_scale = dt};
}

__device__ Gate GateOf(const DecayArgs& args, float z, int32_t channel) {
  switch (args.formula) {
    case DecayFormula::kLogSigmoid:
      return ByLogSigmoid(args, z);
    case DecayFormula::kLowerBound:
      return ByLowerBound(z, args.lower_bound == nullptr ? 0.0F : args.lower_bound[channel]);
    case DecayFormula::kExponential:
      return {.log_decay = -expf(z), .complement = 0.0F, .input_scale = 0.0F};
    case DecayFormula::kSoftplus:
      return BySoftplus(args, z, args.a_log[channel]);
  }
  return {};
}

template <int kWidth, typename T>
__device__ void LoadSome(const T* from, float (&to)[kWidth]) {
  if constexpr (kWidth == kPack) {
    const Pack pack = LoadPack(from);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) to[i] = pack.v[i];
  } else {
    static_assert(kWidth == 1);
    to[0] = ToFloat(from[0]);
  }
}

template <int kWidth, typename T>
__device__ void StoreSome(T* to, const float (&from)[kWidth]) {
  if constexpr (kWidth == kPack) {
    Pack pack;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) pack.v[i] = from[i];
    StorePack(to, pack);
  } else {
    static_assert(kWidth == 1);
    to[0] = FromFloat<T>(from[0]);
  }
}

// Grid: rows * dim / kWidth threads, each of which owns kWidth neighbouring channels of a row.
// What an element gets does not depend on kWidth.
template <typename T, int kWidth>
__global__ __launch_bounds__(kThreads) void DecayKernel(const __grid_constant__ DecayArgs args) {
  EnterStream();
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t parts = args.dim / kWidth;
  if (thread >= int64_t{args.rows} * parts) return;
  const int64_t row = thread / parts;
  const auto channel = static_cast<int32_t>(thread % parts) * kWidth;
  float z[kWidth];
  LoadSome<kWidth>(static_cast<const T*>(args.x) + row * args.x_stride + channel, z);
  float complement[kWidth];
  float input_scale[kWidth];
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    const float bias = args.bias == nullptr ? 0.0F : args.bias[channel + i];
    const Gate gate = GateOf(args, z[i] + bias, channel + i);
    z[i] = gate.log_decay;
    complement[i] = gate.complement;
    input_scale[i] = gate.input_scale;
  }
  const int64_t at = row * args.dim + channel;
  StoreSome<kWidth>(args.log_decay + at, z);
  if (args.complement != nullptr) {
    T* const to = static_cast<T*>(args.complement) + row * args.complement_stride + channel;
    StoreSome<kWidth>(to, complement);
  }
  if (args.input_scale != nullptr) StoreSome<kWidth>(args.input_scale + at, input_scale);
}

bool IsInPacks(const DecayArgs& args) {
  return args.dim % kPack == 0 && args.x_stride % kPack == 0 &&
         args.complement_stride % kPack == 0 && IsAligned16(args.x) &&
         IsAligned16(args.log_decay) && IsAligned16(args.complement) &&
         IsAligned16(args.input_scale);
}

}  // namespace

void DecayCuda(const DecayArgs& args, cudaStream_t stream) {
  CheckDecay(args);
  if (args.rows == 0) return;
  const bool in_packs = IsInPacks(args);
  const int64_t threads = int64_t{args.rows} * args.dim / (in_packs ? kPack : 1);
  const auto blocks = static_cast<unsigned>((threads + kThreads - 1) / kThreads);
  DispatchDType(args.dtype, [&](auto zero) {
    if (in_packs) {
      LaunchKernel({blocks, kThreads}, stream, DecayKernel<decltype(zero), kPack>, args);
    } else {
      LaunchKernel({blocks, kThreads}, stream, DecayKernel<decltype(zero), 1>, args);
    }
  });
}

}  // namespace sluice
