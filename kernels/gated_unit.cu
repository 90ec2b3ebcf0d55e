#include "kernels/gated_unit.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

// Grid: (packs of a row / kThreads, rows in strides). A thread owns 8 neighbouring numbers of out:
// two 16-byte loads and one store, nothing shared.
template <typename T>
__global__ void GatedUnitKernel(const __grid_constant__ GatedUnitArgs args) {
  const int32_t col = (blockIdx.x * kThreads + threadIdx.x) * kPack;
  if (col >= args.dim) return;
  for (int32_t row = blockIdx.y; row < args.rows; row += gridDim.y) {
    const T* const gate_at = static_cast<const T*>(args.x) + int64_t{row} * 2 * args.dim + col;
    const Pack gate = LoadPack(gate_at);
    Pack up = LoadPack(gate_at + args.dim);
#pragma unroll
    for (int i = 0; i < kPack; ++i) up.v[i] *= Silu(gate.v[i]);
    StorePack(static_cast<T*>(args.out) + int64_t{row} * args.dim + col, up);
  }
}

}  // namespace

void GatedUnitCuda(const GatedUnitArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.dim > 0 && args.dim % kPack == 0);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.out));
  if (args.rows == 0) return;
  const dim3 grid((args.dim / kPack + kThreads - 1) / kThreads, min(args.rows, 65535));
  DispatchDType(args.dtype, [&](auto zero) {
    GatedUnitKernel<decltype(zero)><<<grid, kThreads, 0, stream>>>(args);
  });
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
