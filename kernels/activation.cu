#include "kernels/activation.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

// Grid: (packs of a row / kThreads, rows in strides). A thread owns 8 neighbouring numbers.
template <typename T>
__global__ void ActivateKernel(const __grid_constant__ ActivationArgs args) {
  const int32_t col = (blockIdx.x * kThreads + threadIdx.x) * kPack;
  if (col >= args.cols) return;
  for (int32_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    T* const at = static_cast<T*>(args.x) + row * args.stride + col;
    Pack x = LoadPack(at);
#pragma unroll
    for (float& value : x.v) value = Activated(args.act, value);
    StorePack(at, x);
  }
}

}  // namespace

void ActivateCuda(const ActivationArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.cols > 0 && args.cols % kPack == 0);
  SLUICE_CHECK(args.stride % kPack == 0 && IsAligned16(args.x));
  if (args.rows == 0 || args.act == Activation::kNone) return;
  const dim3 grid((args.cols / kPack + kThreads - 1) / kThreads, min(args.rows, 65535));
  DispatchDType(args.dtype, [&](auto zero) {
    ActivateKernel<decltype(zero)><<<grid, kThreads, 0, stream>>>(args);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
