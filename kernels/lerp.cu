#include "kernels/lerp.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/row_grid.cuh"

namespace sluice {
namespace {

// mu + mix of one pack of mix `index`.
template <typename T>
__device__ Pack Amount(const LerpArgs& args, int32_t index, int32_t row, int32_t col) {
  Pack amount = {};
  if (args.mu != nullptr) amount = LoadPack(args.mu + index * args.dim + col);
  if (args.mix == nullptr) return amount;
  const T* const mix = static_cast<const T*>(args.mix) + index * args.mix_step;
  const Pack more = LoadPack(mix + row * args.mix_stride + col);
#pragma unroll
  for (int c = 0; c < kPack; ++c) amount.v[c] += more.v[c];
  return amount;
}

// Grid: that of rows. A thread owns 8 neighbouring channels of a row, of every mix, kGroup of them
// at a time: these are loaded before any is stored, since y may be mix. Bound by memory.
template <typename T, int kGroup>
__global__ __launch_bounds__(kRowGridThreads) void LerpKernel(
    const __grid_constant__ LerpArgs args) {
  EnterStream();
  const int32_t col = GridPack() * kPack;
  if (col >= args.dim) return;
  for (int32_t row = GridRow(); row < args.rows; row += GridRowStep()) {
    const Pack x = LoadPack(static_cast<const T*>(args.x) + row * args.x_stride + col);
    const Pack delta = LoadPack(static_cast<const T*>(args.delta) + int64_t{row} * args.dim + col);
    T* const y = static_cast<T*>(args.y) + row * args.y_stride + col;
    for (int32_t first = 0; first < args.count; first += kGroup) {
      Pack amounts[kGroup] = {};
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        if (first + i < args.count) amounts[i] = Amount<T>(args, first + i, row, col);
      }
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        if (first + i >= args.count) break;
        Pack mixed;
#pragma unroll
        for (int c = 0; c < kPack; ++c) mixed.v[c] = fmaf(delta.v[c], amounts[i].v[c], x.v[c]);
        StorePack(y + (first + i) * args.y_step, mixed);
      }
    }
  }
}

}  // namespace

void LerpCuda(const LerpArgs& args, cudaStream_t stream) {
  CheckLerp(args);
  static_assert(kPack == 8);
  SLUICE_CHECK(args.x_stride % kPack == 0 && args.y_stride % kPack == 0);
  SLUICE_CHECK(args.mix == nullptr || args.mix_stride % kPack == 0);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.delta) && IsAligned16(args.mu));
  SLUICE_CHECK(IsAligned16(args.mix) && IsAligned16(args.y));
  if (args.rows == 0) return;
  const RowGrid grid = GridOfRows(args.rows, args.dim / kPack);
  DispatchDType(args.dtype, [&](auto zero) {
    if (args.count == 1) {
      LaunchKernel({grid.blocks, grid.threads}, stream, LerpKernel<decltype(zero), 1>, args);
    } else {
      LaunchKernel({grid.blocks, grid.threads}, stream, LerpKernel<decltype(zero), 3>, args);
    }
  });
}

}  // namespace sluice
