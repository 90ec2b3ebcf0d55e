#include "kernels/rotary.h"

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;

// The angle less whole turns, in units of pi, in [-1, 1].
__device__ float ReducedAngle(int32_t position, float frequency) {
  constexpr double kPi = 3.141592653589793;
  constexpr double kTurn = 6.283185307179586;           // 2 pi, and
  constexpr double kTurnRest = 2.4492935982947064e-16;  // what it leaves out of it
  double angle = __fmul_rn(static_cast<float>(position), frequency);
  double rest = 0.0;
  if (position >= kRotaryRounded) {
    angle = __dmul_rn(position, frequency);
    rest = fma(static_cast<double>(position), static_cast<double>(frequency), -angle);
  }
  const double turns = rint(angle * (1.0 / kTurn));
  const double reduced = fma(-turns, kTurnRest, fma(-turns, kTurn, angle));
  return static_cast<float>((reduced + rest) * (1.0 / kPi));
}

// Grid: packs of pairs (rows * heads * K / 16) / kThreads. A thread owns 8 neighbouring pairs: it
// loads 16 bytes from either half of a head and writes them back. Bound by memory.
template <typename T>
__global__ void RotaryKernel(const __grid_constant__ RotaryArgs args,
                             const __grid_constant__ RotaryFrequencies frequencies) {
  EnterStream();
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int32_t half = args.dim / 2;
  const int32_t packs = half / kPack;
  const int64_t row = index / (int64_t{args.heads} * packs);
  if (row >= args.rows) return;
  const int64_t head = index / packs % args.heads;
  const int32_t c = static_cast<int32_t>(index % packs) * kPack;
  const int32_t position = args.positions[row];

  T* const at = static_cast<T*>(args.x) + row * args.stride + head * args.dim + c;
  Pack first = LoadPack(at);
  Pack second = LoadPack(at + half);
#pragma unroll
  for (int i = 0; i < kPack; ++i) {
    float sine;
    float cosine;
    sincospif(ReducedAngle(position, frequencies.f[c + i]), &sine, &cosine);
    const float x = first.v[i];
    first.v[i] = fmaf(-second.v[i], sine, x * cosine);
    second.v[i] = fmaf(x, sine, second.v[i] * cosine);
  }
  StorePack(at, first);
  StorePack(at + half, second);
}

}  // namespace

void RotateCuda(const RotaryArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 0 && args.heads >= 1);
  SLUICE_CHECK(args.dim >= 16 && args.dim <= kMaxRotaryDim && args.dim % 16 == 0);
  SLUICE_CHECK(args.base > 0);
  SLUICE_CHECK(args.stride >= int64_t{args.heads} * args.dim && args.stride % kPack == 0);
  SLUICE_CHECK(IsAligned16(args.x));
  const int64_t threads = int64_t{args.rows} * args.heads * (args.dim / (2 * kPack));
  const int64_t blocks = (threads + kThreads - 1) / kThreads;
  SLUICE_CHECK(blocks <= INT32_MAX);
  if (blocks == 0) return;
  const RotaryFrequencies& frequencies = FindRotaryFrequencies(args.base, args.dim);
  DispatchDType(args.dtype, [&](auto zero) {
    LaunchKernel({static_cast<unsigned>(blocks), kThreads}, stream, RotaryKernel<decltype(zero)>,
                 args, frequencies);
  });
}

}  // namespace sluice
