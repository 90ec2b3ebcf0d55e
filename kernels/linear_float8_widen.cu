#include "kernels/check.h"
#include "kernels/float8.cuh"
#include "kernels/launch.cuh"
#include "kernels/linear_cuda.h"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;
constexpr int kCodes = 16;  // of a thread

// Grid: codes, `kCodes` a thread. What they are is asked for before what came before has ended; the
// memory that they are widened into may until then be in use.
__global__ __launch_bounds__(kThreads) void WidenFloat8Kernel(const uint4* codes,
                                                              const float* scales, int32_t in_dim,
                                                              uint32_t packs, uint4* widened) {
  AllowNextKernel();
  const uint32_t pack = blockIdx.x * kThreads + threadIdx.x;
  const bool is_there = pack < packs;
  uint4 own = make_uint4(0, 0, 0, 0);
  float scale = 0.0F;
  if (is_there) {
    own = codes[pack];
    scale = scales[pack / static_cast<uint32_t>(in_dim / kCodes)];
  }
  AwaitEarlierKernels();
  if (!is_there) return;
  const uint32_t scale_pair = PackWord(scale, scale);
  const auto scaled = [&](uint32_t low, uint32_t high) {
    const uint2 a = WidenFour(low);
    const uint2 b = WidenFour(high);
    return make_uint4(MultiplyPair(a.x, scale_pair), MultiplyPair(a.y, scale_pair),
                      MultiplyPair(b.x, scale_pair), MultiplyPair(b.y, scale_pair));
  };
  widened[size_t{2} * pack] = scaled(own.x, own.y);
  widened[size_t{2} * pack + 1] = scaled(own.z, own.w);
}

}  // namespace

void WidenFloat8Cuda(const Float8Rows& from, void* widened, cudaStream_t stream) {
  SLUICE_CHECK(from.in_dim % kCodes == 0);
  const int64_t count = int64_t{from.rows} * from.in_dim / kCodes;
  SLUICE_CHECK(count <= INT32_MAX);
  const auto packs = static_cast<uint32_t>(count);
  const unsigned blocks = (packs + kThreads - 1) / kThreads;
  LaunchKernel({blocks, kThreads}, stream, WidenFloat8Kernel, static_cast<const uint4*>(from.codes),
               from.scales, from.in_dim, packs, static_cast<uint4*>(widened));
}

}  // namespace sluice
