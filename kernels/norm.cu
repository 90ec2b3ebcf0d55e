#include "kernels/norm.h"

#include <algorithm>

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int32_t kMaxDim = 32768;
constexpr int kMaxThreads = 1024;
constexpr int kSmallThreads = 256;  // of a block of warps that have a norm each

// A norm is a warp's if each lane then has one pack, else a block's, of as many warps as have one.
constexpr int32_t kMaxWarpDim = kWarp * kPack;

enum class Team { kWarp, kBlock };

// What of NormArgs a kernel knows: a weight; a gate too; everything. Who knows less has more norms
// on their way at once.
enum class Extent { kWeighted, kGated, kAll };

// The sum over a block of whole warps, for every thread, in their order. All threads take part.
__device__ float BlockSum(float value) {
  __shared__ float partial[kMaxThreads / kWarp];
  value = WarpReduce(value, Plus());
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  float sum = 0.0F;
  for (unsigned warp = 0; warp < blockDim.x / kWarp; ++warp) sum += partial[warp];
  __syncthreads();
  return sum;
}

template <Team kTeam>
__device__ float TeamSum(float value) {
  return kTeam == Team::kWarp ? WarpReduce(value, Plus()) : BlockSum(value);
}

__device__ Pack Times(Pack a, const Pack& b) {
#pragma unroll
  for (int i = 0; i < kPack; ++i) a.v[i] *= b.v[i];
  return a;
}

// Eight numbers, all `absent` for a null `from`.
template <typename T>
__device__ Pack LoadOr(const T* from, int32_t d, float absent) {
  if (from != nullptr) return LoadPack(from + d);
  Pack pack;
#pragma unroll
  for (float& value : pack.v) value = absent;
  return pack;
}

// Grid: norms (rows * groups) / teams of a block. Bound by memory, for few rows by how often it is
// waited for: a thread asks for all that its first pack needs at once, for weight and bias before
// what came before has ended. Norms of more than kMaxThreads packs are read anew for each pass over
// them.
template <typename T, Team kTeam, Extent kExtent>
__global__ __launch_bounds__(kTeam == Team::kWarp ? kSmallThreads : kMaxThreads) void NormKernel(
    const __grid_constant__ NormArgs args) {
  constexpr bool kGeneral = kExtent == Extent::kAll;
  AllowNextKernel();
  const int32_t team = kTeam == Team::kWarp ? kWarp : static_cast<int32_t>(blockDim.x);
  const int64_t norm = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / team;
  const int64_t row = norm / args.groups;
  const int64_t first = norm % args.groups * args.dim;
  const int64_t weight_at = args.wide_weight ? first : 0;
  const int32_t begin = static_cast<int32_t>(threadIdx.x) % team * kPack;
  const int32_t step = team * kPack;
  const float* const weight = args.weight == nullptr ? nullptr : args.weight + weight_at;
  const float* const bias = !kGeneral || args.bias == nullptr ? nullptr : args.bias + weight_at;
  Pack weights;
  Pack biases;
  const auto load_weight = [&](int32_t d) {
    weights = LoadOr(weight, d, 1.0F);
    if constexpr (kGeneral) biases = LoadOr(bias, d, 0.0F);
  };
  if (begin < args.dim) load_weight(begin);
  AwaitEarlierKernels();
  if (norm >= int64_t{args.rows} * args.groups) return;  // whole warps

  const T* const x = static_cast<const T*>(args.x) + row * args.x_stride + first;
  const T* const gate = kExtent == Extent::kWeighted || args.gate == nullptr
                            ? nullptr
                            : static_cast<const T*>(args.gate) + row * args.gate_stride + first;
  const bool gate_first = kGeneral && args.gate_first;
  Pack values;
  Pack gates;
  const auto load_row = [&](int32_t d) {
    values = LoadPack(x + d);
    gates = LoadOr(gate, d, 1.0F);
    if (gate != nullptr) gates = Activated(args.gate_act, gates);
    if (gate_first) values = Times(values, gates);
  };
  if (begin < args.dim) load_row(begin);
  const bool once = args.dim <= step;

  float mean = 0.0F;
  float inverse = 1.0F;
  // A sum of squares about a mean found before does not cancel.
  for (int pass = kGeneral && args.center ? 0 : 1; pass < 2; ++pass) {
    float sum = 0.0F;
    for (int32_t d = begin; d < args.dim; d += step) {
      if (!once) load_row(d);
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
  for (int32_t d = begin; d < args.dim; d += step) {
    if (!once) {
      load_row(d);
      load_weight(d);
    }
#pragma unroll
    for (float& value : values.v) value = (value - mean) * inverse;
    values = Times(values, weights);
    if constexpr (kGeneral) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) values.v[i] += biases.v[i];
    }
    if (!gate_first) values = Times(values, gates);
    StorePack(y + d, values);
  }
}

template <typename T, Team kTeam>
void Launch(const NormArgs& args, cudaStream_t stream) {
  int64_t threads = int64_t{args.rows} * args.groups * kWarp;
  int32_t block = kSmallThreads;
  if constexpr (kTeam == Team::kBlock) {
    block = std::min((args.dim + kMaxWarpDim - 1) / kMaxWarpDim * kWarp, kMaxThreads);
    threads = int64_t{args.rows} * args.groups * block;
  }
  const auto blocks = static_cast<unsigned>((threads + block - 1) / block);
  const LaunchShape shape = {blocks, static_cast<unsigned>(block)};
  if (args.center || args.bias != nullptr || args.gate_first) {
    LaunchKernel(shape, stream, NormKernel<T, kTeam, Extent::kAll>, args);
  } else if (args.gate != nullptr) {
    LaunchKernel(shape, stream, NormKernel<T, kTeam, Extent::kGated>, args);
  } else {
    LaunchKernel(shape, stream, NormKernel<T, kTeam, Extent::kWeighted>, args);
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
      Launch<decltype(zero), Team::kWarp>(args, stream);
    } else {
      Launch<decltype(zero), Team::kBlock>(args, stream);
    }
  });
}

}  // namespace sluice
