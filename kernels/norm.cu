#include "kernels/norm.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;
constexpr int32_t kMaxDim = 16384;
constexpr int32_t kMaxWarpDim = 1024;  // Norms up to here take one warp, larger ones a block.

// Grid: norms (rows * groups) / teams of a block. A team of kTeam threads owns one norm; its lanes
// read 16 bytes each, neighbours beside each other, twice: the second time from the cache.
// Bound by memory: x, gate and y once.
template <typename T, int kTeam>
__global__ __launch_bounds__(kThreads) void NormKernel(const __grid_constant__ NormArgs args) {
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
  if constexpr (kTeam == kWarp) {
    squares = WarpReduce(squares, Plus());
  } else {
    squares = BlockReduce<kThreads>(squares, Plus());
  }
  const float inverse = 1.0F / sqrtf(squares / static_cast<float>(args.dim) + args.eps);

  T* const y = static_cast<T*>(args.y) + row * args.y_stride + first;
  const T* const gate = args.gate == nullptr
                            ? nullptr
                            : static_cast<const T*>(args.gate) + row * args.gate_stride + first;
  for (int32_t d = begin; d < args.dim; d += kTeam * kPack) {
    Pack values = LoadPack(x + d);
#pragma unroll
    for (float& value : values.v) value *= inverse;
    if (args.weight != nullptr) {
      const Pack weight = LoadPack(args.weight + d);
#pragma unroll
      for (int i = 0; i < kPack; ++i) values.v[i] *= weight.v[i];
    }
    if (gate != nullptr) {
      const Pack gates = LoadPack(gate + d);
#pragma unroll
      for (int i = 0; i < kPack; ++i) values.v[i] *= Activated(args.gate_act, gates.v[i]);
    }
    StorePack(y + d, values);
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
  SLUICE_CHECK(args.gate == nullptr || args.gate_stride % kPack == 0);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.y) && IsAligned16(args.gate));
  SLUICE_CHECK(IsAligned16(args.weight));
  const int64_t norms = int64_t{args.rows} * args.groups;
  if (norms == 0) return;
  const bool by_warp = args.dim <= kMaxWarpDim;
  const int64_t teams = by_warp ? kThreads / kWarp : 1;
  const auto blocks = static_cast<unsigned>((norms + teams - 1) / teams);
  DispatchDType(args.dtype, [&](auto zero) {
    if (by_warp) {
      NormKernel<decltype(zero), kWarp><<<blocks, kThreads, 0, stream>>>(args);
    } else {
      NormKernel<decltype(zero), kThreads><<<blocks, kThreads, 0, stream>>>(args);
    }
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
