#include "kernels/norm.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;
constexpr int32_t kMaxDim = 32768;
constexpr int32_t kMaxWarpDim = 1024;  // Norms up to here take one warp, larger ones a block.

template <int kTeam>
__device__ float TeamSum(float value) {
  if constexpr (kTeam == kWarp) {
    return WarpReduce(value, Plus());
  } else {
    return BlockReduce<kThreads>(value, Plus());
  }
}

__device__ Pack Times(Pack a, const Pack& b) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) a.v[i] *= b.v[i];
  return a;
}

// Eight numbers of an activated gate, or ones if there is none.
template <typename T>
__device__ Pack Gate(Activation act, const T* gate, int32_t d) {
  if (gate != nullptr) return Activated(act, LoadPack(gate + d));
  return {{1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F}};
}

// Grid: norms (rows * groups) / teams of a block. A team of kTeam threads owns one norm; its lanes
// read 16 bytes each, neighbours beside each other, twice: the second time from the cache.
// Bound by memory: x, gate and y once. Neither center nor bias nor gate_first.
template <typename T, int kTeam>
__global__ __launch_bounds__(kThreads) void PlainNormKernel(const __grid_constant__ NormArgs args) {
  EnterStream();
  const int64_t norm = int64_t{blockIdx.x} * (kThreads / kTeam) + threadIdx.x / kTeam;
  if (norm >= int64_t{args.rows} * args.groups) return;  // whole teams
  const int64_t row = norm / args.groups;
  const int64_t first = norm % args.groups * args.dim;
  const int32_t begin = threadIdx.x % kTeam * kPack;

  const T* const x = static_cast<const T*>(args.x) + row * args.x_stride + first;
  float squares = 0.0F;
  for (int32_t d = begin; d < args.dim; d += kTeam * kPack) {
    const Pack values = LoadPack(x + d);
#pragma unroll
    for (const float value : values.v) squares = fmaf(value, value, squares);
  }
  squares = TeamSum<kTeam>(squares);
  const float inverse = 1.0F / sqrtf(squares / static_cast<float>(args.dim) + args.eps);

  T* const y = static_cast<T*>(args.y) + row * args.y_stride + first;
  const T* const gate = args.gate == nullptr
                            ? nullptr
                            : static_cast<const T*>(args.gate) + row * args.gate_stride + first;
  const float* const weight =
      args.weight == nullptr ? nullptr : args.weight + (args.wide_weight ? first : 0);
  for (int32_t d = begin; d < args.dim; d += kTeam * kPack) {
    Pack values = LoadPack(x + d);
#pragma unroll
    for (float& value : values.v) value *= inverse;
    if (weight != nullptr) values = Times(values, LoadPack(weight + d));
    if (gate != nullptr) values = Times(values, Activated(args.gate_act, LoadPack(gate + d)));
    StorePack(y + d, values);
  }
}

// The same with everything that NormArgs offers. Reads x, and with gate_first the gate, once more
// to center: a sum of squares about a mean found before does not cancel.
template <typename T, int kTeam>
__global__ __launch_bounds__(kThreads) void NormKernel(const __grid_constant__ NormArgs args) {
  EnterStream();
  const int64_t norm = int64_t{blockIdx.x} * (kThreads / kTeam) + threadIdx.x / kTeam;
  if (norm >= int64_t{args.rows} * args.groups) return;  // whole teams
  const int64_t row = norm / args.groups;
  const int64_t first = norm % args.groups * args.dim;
  const int64_t weight_at = args.wide_weight ? first : 0;
  const int32_t begin = threadIdx.x % kTeam * kPack;
  const T* const x = static_cast<const T*>(args.x) + row * args.x_stride + first;
  const T* const gate = args.gate == nullptr
                            ? nullptr
                            : static_cast<const T*>(args.gate) + row * args.gate_stride + first;

  float mean = 0.0F;
  float inverse = 1.0F;
  for (int pass = args.center ? 0 : 1; pass < 2; ++pass) {
    float sum = 0.0F;
    for (int32_t d = begin; d < args.dim; d += kTeam * kPack) {
      Pack values = LoadPack(x + d);
      if (args.gate_first) values = Times(values, Gate(args.gate_act, gate, d));
#pragma unroll
      for (float value : values.v) {
        value -= mean;
        sum = fmaf(value, pass == 0 ? 1.0F : value, sum);
      }
    }
    sum = TeamSum<kTeam>(sum) / static_cast<float>(args.dim);
    if (pass == 0) mean = sum;
    if (pass == 1) inverse = 1.0F / sqrtf(sum + args.eps);
  }

  T* const y = static_cast<T*>(args.y) + row * args.y_stride + first;
  for (int32_t d = begin; d < args.dim; d += kTeam * kPack) {
    Pack values = LoadPack(x + d);
    const Pack gates = Gate(args.gate_act, gate, d);
    if (args.gate_first) values = Times(values, gates);
#pragma unroll
    for (float& value : values.v) value = (value - mean) * inverse;
    if (args.weight != nullptr) values = Times(values, LoadPack(args.weight + weight_at + d));
    if (args.bias != nullptr) {
      const Pack bias = LoadPack(args.bias + weight_at + d);
#pragma unroll
      for (int i = 0; i < kPack; ++i) values.v[i] += bias.v[i];
    }
    if (!args.gate_first) values = Times(values, gates);
    StorePack(y + d, values);
  }
}

template <typename T, int kTeam>
void Launch(const NormArgs& args, cudaStream_t stream) {
  const int64_t norms = int64_t{args.rows} * args.groups;
  const int64_t teams = kThreads / kTeam;
  const auto blocks = static_cast<unsigned>((norms + teams - 1) / teams);
  if (args.center || args.bias != nullptr || args.gate_first) {
    LaunchKernel({blocks, kThreads}, stream, NormKernel<T, kTeam>, args);
  } else {
    LaunchKernel({blocks, kThreads}, stream, PlainNormKernel<T, kTeam>, args);
  }
}

}  // namespace

void NormCuda(const NormArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.groups >= 1);
  SLUICE_CHECK(args.dim >= kPack && args.dim <= kMaxDim && args.dim % kPack == 0);
  SLUICE_CHECK(args.eps > 0.0F);
  const int64_t width = int64_t{args.groups} * args.dim;
  SLUICE_CHECK(args.x_stride >= width && args.y_stride >= width);
  SLUICE_CHECK(args.x_stride % kPack == 0 && args.y_stride % kPack == 0);
  SLUICE_CHECK(args.gate == nullptr ||
               (args.gate_stride >= width && args.gate_stride % kPack == 0));
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.y) && IsAligned16(args.gate));
  SLUICE_CHECK(IsAligned16(args.weight) && IsAligned16(args.bias));
  SLUICE_CHECK(args.gate_act != Activation::kSoftCap);
  if (args.rows == 0) return;
  DispatchDType(args.dtype, [&](auto zero) {
    if (args.dim <= kMaxWarpDim) {
      Launch<decltype(zero), kWarp>(args, stream);
    } else {
      Launch<decltype(zero), kThreads>(args, stream);
    }
  });
}

}  // namespace sluice
