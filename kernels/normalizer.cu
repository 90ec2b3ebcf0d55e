#include "kernels/normalizer.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;

// Grid: rows * heads * (V + 16) / 8 threads, each of which owns 8 neighbouring numbers of out.
template <typename T>
__global__ __launch_bounds__(kThreads) void PadValuesKernel(
    const __grid_constant__ PadValuesArgs args) {
  EnterStream();
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t packs = (args.dim + kNormalizerTile) / kPack;
  const int64_t head = thread / packs;  // counted over all rows
  if (head >= int64_t{args.rows} * args.heads) return;
  const auto col = static_cast<int32_t>(thread % packs) * kPack;
  Pack values = {};
  if (col < args.dim) {
    values = LoadPack(static_cast<const T*>(args.v) + head / args.heads * args.v_stride +
                      head % args.heads * args.dim + col);
  } else if (col == args.dim) {
    values.v[0] = 1.0F;
  }
  StorePack(static_cast<T*>(args.out) + thread * kPack, values);
}

// Grid: rows * heads * V / 8 threads, each of which owns 8 neighbouring numbers of y.
template <typename T>
__global__ __launch_bounds__(kThreads) void NormalizeKernel(
    const __grid_constant__ NormalizeArgs args) {
  EnterStream();
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t packs = args.dim / kPack;
  const int64_t head = thread / packs;  // counted over all rows
  if (head >= int64_t{args.rows} * args.heads) return;
  const auto col = static_cast<int32_t>(thread % packs) * kPack;
  const T* const x = static_cast<const T*>(args.x) + head * (args.dim + kNormalizerTile);
  float divisor = ToFloat(x[args.dim]);
  if (args.kind == NormalizeKind::kMlstm) {
    divisor = fmaxf(fabsf(divisor), expf(args.log_floor[head]));
  }
  divisor += args.eps;
  Pack values = LoadPack(x + col);
#pragma unroll
  for (float& value : values.v) value = divisor == 0.0F ? 0.0F : value / divisor;
  StorePack(static_cast<T*>(args.y) + thread * kPack, values);
}

unsigned BlocksOf(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

void PadValuesCuda(const PadValuesArgs& args, cudaStream_t stream) {
  CheckPadValues(args);
  SLUICE_CHECK(IsAligned16(args.v) && IsAligned16(args.out));
  const int64_t heads = int64_t{args.rows} * args.heads;
  if (heads == 0) return;
  const unsigned blocks = BlocksOf(heads * ((args.dim + kNormalizerTile) / kPack));
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({blocks, kThreads}, stream, PadValuesKernel<decltype(zero)>, args);
  });
}

void NormalizeCuda(const NormalizeArgs& args, cudaStream_t stream) {
  CheckNormalize(args);
  SLUICE_CHECK(IsAligned16(args.x) && IsAligned16(args.y));
  const int64_t heads = int64_t{args.rows} * args.heads;
  if (heads == 0) return;
  const unsigned blocks = BlocksOf(heads * (args.dim / kPack));
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({blocks, kThreads}, stream, NormalizeKernel<decltype(zero)>, args);
  });
}

}  // namespace sluice
