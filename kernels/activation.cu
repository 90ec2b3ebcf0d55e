#include "kernels/activation.h"

#include "kernels/activation.cuh"
#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/row_grid.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

// Grid: that of rows. A thread owns 8 neighbouring numbers of a row, and of the next one of its
// step.
template <typename T>
__global__ void ActivateKernel(const __grid_constant__ ActivationArgs args) {
  EnterStream();
  const int32_t col = GridPack() * kPack;
  if (col >= args.cols) return;
  Pack bias = {};
  if (args.bias != nullptr) bias = LoadPack(args.bias + col);
  for (int32_t row = GridRow(); row < args.rows; row += GridRowStep()) {
    T* const at = static_cast<T*>(args.x) + row * args.stride + col;
    Pack x = LoadPack(at);
    if (args.bias != nullptr) {
#pragma unroll
      for (int i = 0; i < kPack; ++i) x.v[i] += bias.v[i];
    }
    StorePack(at, Activated(args.act, x, args.cap));
  }
}

// Grid: numbers / kThreads. A thread owns one number of rows that lie end to end, of any length.
__global__ void ActivateEachKernel(const __grid_constant__ ActivationArgs args) {
  EnterStream();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= int64_t{args.rows} * args.cols) return;
  float* const x = static_cast<float*>(args.x) + at;
  const float bias = args.bias == nullptr ? 0.0F : args.bias[at % args.cols];
  *x = Activated(args.act, *x + bias, args.cap);
}

}  // namespace

void ActivateCuda(const ActivationArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.cols > 0 && args.stride >= args.cols);
  SLUICE_CHECK(args.act != Activation::kSoftCap || args.cap > 0.0F);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.bias));
  if (args.rows == 0 || (args.act == Activation::kNone && args.bias == nullptr)) return;
  if (args.cols % kPack != 0) {
    SLUICE_CHECK(args.dtype == DType::kFloat32 && args.stride == args.cols);
    const int64_t blocks = (int64_t{args.rows} * args.cols + kThreads - 1) / kThreads;
    SLUICE_CHECK(blocks <= INT32_MAX);
    LaunchKernel({static_cast<unsigned>(blocks), kThreads}, stream, ActivateEachKernel, args);
    return;
  }
  SLUICE_CHECK(args.stride % kPack == 0);
  const RowGrid grid = GridOfRows(args.rows, args.cols / kPack);
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({grid.blocks, grid.threads}, stream, ActivateKernel<decltype(zero)>, args);
  });
}

}  // namespace sluice
