#include "kernels/norm.h"

#include <algorithm>

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/norm.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int32_t kMaxDim = 32768;
constexpr int kMaxThreads = 1024;
constexpr int kSmallThreads = 256;  // of a block of warps that have a norm each

// A norm is a block's, of as many warps as it has runs, a pack a lane. Of one run, and where there
// are many norms, it is a warp's, which does for each run what that run's warp would: the bits are
// the same.
constexpr int32_t kMaxWarpRuns = 8;
constexpr int64_t kManyNorms = 2048;

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

// Grid: norms (rows * groups), or those over the warps of a block if kRuns is not 0: a warp then
// has one of at most kRuns runs. Bound by memory, for few rows by how often it is waited for: a
// thread asks for all that its packs need at once, for weight and bias before what came before has
// ended. A block's norms of more than kMaxThreads packs are read anew for each pass over them.
template <typename T, int kRuns, Extent kExtent>
__global__ __launch_bounds__(kRuns > 0 ? kSmallThreads : kMaxThreads) void NormKernel(
    const __grid_constant__ NormArgs args) {
  constexpr bool kGeneral = kExtent == Extent::kAll;
  constexpr bool kOfWarp = kRuns > 0;
  constexpr int kPacks = kOfWarp ? kRuns : 1;  // that a thread holds
  AllowNextKernel();
  const int32_t team = kOfWarp ? kWarp : static_cast<int32_t>(blockDim.x);
  const int64_t norm = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / team;
  const int64_t row = norm / args.groups;
  const int64_t first = norm % args.groups * args.dim;
  const int64_t weight_at = args.wide_weight ? first : 0;
  const int32_t begin = static_cast<int32_t>(threadIdx.x) % team * kPack;
  const int32_t step = team * kPack;
  const float* const weight = args.weight == nullptr ? nullptr : args.weight + weight_at;
  const float* const bias = !kGeneral || args.bias == nullptr ? nullptr : args.bias + weight_at;
  Pack weights[kPacks];
  Pack biases[kPacks];
  const auto load_weight = [&](int pack, int32_t d) {
    if (d >= args.dim) return;
    weights[pack] = LoadOr(weight, d, 1.0F);
    if constexpr (kGeneral) biases[pack] = LoadOr(bias, d, 0.0F);
  };
  // Several packs' weights come from the cache once they are needed, and leave registers to rows.
  constexpr bool kEarlyWeights = kPacks == 1;
  if (kEarlyWeights) load_weight(0, begin);
  AwaitEarlierKernels();
  if (norm >= int64_t{args.rows} * args.groups) return;  // whole warps

  const T* const x = static_cast<const T*>(args.x) + row * args.x_stride + first;
  const T* const gate = kExtent == Extent::kWeighted || args.gate == nullptr
                            ? nullptr
                            : static_cast<const T*>(args.gate) + row * args.gate_stride + first;
  const bool gate_first = kGeneral && args.gate_first;
  Pack values[kPacks];
  Pack gates[kPacks];
  const auto load_row = [&](int pack, int32_t d) {
    if (d >= args.dim) return;
    values[pack] = LoadPack(x + d);
    gates[pack] = LoadOr(gate, d, 1.0F);
    if (gate != nullptr) gates[pack] = Activated(args.gate_act, gates[pack]);
    if (gate_first) values[pack] = Times(values[pack], gates[pack]);
  };
#pragma unroll
  for (int pack = 0; pack < kPacks; ++pack) load_row(pack, begin + pack * step);
  const bool once = kOfWarp || args.dim <= step;

  float mean = 0.0F;
  float inverse = 1.0F;
  // A sum of squares about a mean found before does not cancel.
  for (int pass = kGeneral && args.center ? 0 : 1; pass < 2; ++pass) {
    const auto add = [&](const Pack& pack, float sum) {
      return AddPack(pack, mean, pass == 1, sum);
    };
    float sum = 0.0F;
    if constexpr (kOfWarp) {
#pragma unroll
      for (int pack = 0; pack < kPacks; ++pack) {
        const bool has = begin + pack * step < args.dim;
        const float of_run = WarpReduce(has ? add(values[pack], 0.0F) : 0.0F, Plus());
        sum = pack == 0 ? of_run : sum + of_run;
      }
    } else {
      for (int32_t d = begin; d < args.dim; d += step) {
        if (!once) load_row(0, d);
        sum = add(values[0], sum);
      }
      sum = BlockSum(sum);
    }
    sum /= static_cast<float>(args.dim);
    if (pass == 0) mean = sum;
    if (pass == 1) inverse = InverseRoot(sum, args);
  }

  T* const y = static_cast<T*>(args.y) + row * args.y_stride + first;
  const auto store = [&](int pack, int32_t d) {
#pragma unroll
    for (int i = 0; i < kPack; ++i) {
      values[pack].v[i] = Normed(values[pack].v[i], mean, inverse, weights[pack].v[i]);
    }
    if constexpr (kGeneral) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) values[pack].v[i] += biases[pack].v[i];
    }
    if (!gate_first) values[pack] = Times(values[pack], gates[pack]);
    StorePack(y + d, values[pack]);
  };
  if constexpr (kOfWarp) {
#pragma unroll
    for (int pack = 0; pack < kPacks; ++pack) {
      const int32_t d = begin + pack * step;
      if (d >= args.dim) return;
      if (!kEarlyWeights) load_weight(pack, d);
      store(pack, d);
    }
  } else {
    for (int32_t d = begin; d < args.dim; d += step) {
      if (!once) {
        load_row(0, d);
        load_weight(0, d);
      }
      store(0, d);
    }
  }
}

template <typename T, int kRuns>
void Launch(const NormArgs& args, cudaStream_t stream) {
  const int64_t norms = int64_t{args.rows} * args.groups;
  int32_t block = kSmallThreads;
  int64_t threads = norms * kWarp;
  if (kRuns == 0) {
    block = std::min((args.dim + kNormRun - 1) / kNormRun * kWarp, kMaxThreads);
    threads = norms * block;
  }
  const auto blocks = static_cast<unsigned>((threads + block - 1) / block);
  const LaunchShape shape = {blocks, static_cast<unsigned>(block)};
  if (args.center || args.bias != nullptr || args.gate_first) {
    LaunchKernel(shape, stream, NormKernel<T, kRuns, Extent::kAll>, args);
  } else if (args.gate != nullptr) {
    LaunchKernel(shape, stream, NormKernel<T, kRuns, Extent::kGated>, args);
  } else {
    LaunchKernel(shape, stream, NormKernel<T, kRuns, Extent::kWeighted>, args);
  }
}

}  // namespace

void CheckNorm(const NormArgs& args) {
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
}

void NormCuda(const NormArgs& args, cudaStream_t stream) {
  CheckNorm(args);
  if (args.rows == 0) return;
  DispatchDType(args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool many = int64_t{args.rows} * args.groups >= kManyNorms;
    if (args.dim <= kNormRun) {
      Launch<T, 1>(args, stream);
    } else if (many && args.dim <= 2 * kNormRun) {
      Launch<T, 2>(args, stream);
    } else if (many && args.dim <= kMaxWarpRuns * kNormRun) {
      Launch<T, kMaxWarpRuns>(args, stream);
    } else {
      Launch<T, 0>(args, stream);
    }
  });
}

}  // namespace sluice
