#include "kernels/lerp.h"

#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

// Grid: (packs of a row / kThreads, rows in strides). A thread owns 8 neighbouring numbers of y.
// Bound by memory.
template <typename T>
__global__ void LerpKernel(const __grid_constant__ LerpArgs args) {
  const int32_t col = (blockIdx.x * kThreads + threadIdx.x) * kPack;
  if (col >= args.dim) return;
  Pack mu = {};
  if (args.mu != nullptr) mu = LoadPack(args.mu + col);
  for (int32_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    Pack y = LoadPack(static_cast<const T*>(args.x) + row * args.x_stride + col);
    const Pack delta = LoadPack(static_cast<const T*>(args.delta) + int64_t{row} * args.dim + col);
    Pack mix = {};
    if (args.mix != nullptr) {
      mix = LoadPack(static_cast<const T*>(args.mix) + row * args.mix_stride + col);
    }
#pragma unroll
    for (int i = 0; i < kPack; ++i) y.v[i] = fmaf(delta.v[i], mu.v[i] + mix.v[i], y.v[i]);
    StorePack(static_cast<T*>(args.y) + row * args.y_stride + col, y);
  }
}

}  // namespace

void LerpCuda(const LerpArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.dim > 0 && args.dim % kPack == 0);
  SLUICE_CHECK(args.x_stride >= args.dim && args.x_stride % kPack == 0);
  SLUICE_CHECK(args.y_stride >= args.dim && args.y_stride % kPack == 0);
  SLUICE_CHECK(args.mix == nullptr ||
               (args.mix_stride >= args.dim && args.mix_stride % kPack == 0));
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.delta) && IsAligned16(args.mu));
  SLUICE_CHECK(IsAligned16(args.mix) && IsAligned16(args.y));
  if (args.rows == 0) return;
  const dim3 grid((args.dim / kPack + kThreads - 1) / kThreads, min(args.rows, 65535));
  DispatchDType(args.dtype, [&](auto zero) {
    LerpKernel<decltype(zero)><<<grid, kThreads, 0, stream>>>(args);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
