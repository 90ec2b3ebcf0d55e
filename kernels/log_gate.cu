#include "kernels/log_gate.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/log_gate.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kRows = 16;  // of a block

// Grid: (tiles of kRows rows, tiles of kThreads channels). A thread owns one channel of all the
// tile's rows, so that a weight is read once for kRows rows. Bound by the float32 result's store.
template <typename T>
__global__ __launch_bounds__(kThreads) void LogGateKernel(
    const __grid_constant__ LogGateArgs args) {
  EnterStream();
  __shared__ __align__(16) float x_s[kRows][kMaxGateRank];
  const int32_t row0 = blockIdx.x * kRows;
  for (int i = threadIdx.x; i < kRows * args.rank; i += kThreads) {
    const int32_t row = i / args.rank;
    const int32_t j = i % args.rank;
    x_s[row][j] = row0 + row < args.rows
                      ? ToFloat(static_cast<const T*>(args.x)[(row0 + row) * args.x_stride + j])
                      : 0.0F;
  }
  __syncthreads();

  const int32_t channel = blockIdx.y * kThreads + threadIdx.x;
  if (channel >= args.dim) return;
  float sum[kRows] = {};
  for (int32_t j = 0; j < args.rank; j += 4) {
    const float4 w = LoadQuad(args.weight + int64_t{channel} * args.rank + j);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      sum[row] = AddProducts(sum[row], LoadQuad(&x_s[row][j]), w);
    }
  }
  const float bias = args.bias[channel];
  const float factor = 1.0F / args.normalizer;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (row0 + row >= args.rows) return;
    args.log_decay[int64_t{row0 + row} * args.dim + channel] =
        LogGateOf(sum[row], bias, factor, args.clamp_min);
  }
}

}  // namespace

void CheckLogGate(const LogGateArgs& args) {
  SLUICE_CHECK(args.rows >= 0 && args.dim > 0 && args.dim % 8 == 0);
  SLUICE_CHECK(args.rank >= 8 && args.rank <= kMaxGateRank && args.rank % 8 == 0);
  SLUICE_CHECK(args.normalizer > 0.0F && args.clamp_min <= 0.0F);
  SLUICE_CHECK(args.x_stride >= args.rank && IsAligned16(args.weight));
}

void LogGateCuda(const LogGateArgs& args, cudaStream_t stream) {
  CheckLogGate(args);
  if (args.rows == 0) return;
  const dim3 grid((args.rows + kRows - 1) / kRows, (args.dim + kThreads - 1) / kThreads);
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({grid, kThreads}, stream, LogGateKernel<decltype(zero)>, args);
  });
}

}  // namespace sluice
