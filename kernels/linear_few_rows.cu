#include <type_traits>

#include "kernels/check.h"
#include "kernels/launch.cuh"
#include "kernels/linear_cuda.h"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 128;
constexpr int kAhead = 8;  // packs of weight that a thread has on their way at once

// A pack of weight, which nobody reads again before all the others: it stays out of the caches that
// hold x.
struct StreamedFloats {
  float4 low;
  float4 high;

  __device__ void Load(const float* from) {
    low = __ldcs(reinterpret_cast<const float4*>(from));
    high = __ldcs(reinterpret_cast<const float4*>(from) + 1);
  }
  __device__ Pack Unpacked() const {
    return {{low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w}};
  }
};

struct StreamedBFloat16s {
  uint4 words;

  __device__ void Load(const __nv_bfloat16* from) {
    words = __ldcs(reinterpret_cast<const uint4*>(from));
  }
  __device__ Pack Unpacked() const {
    const float2 a = UnpackWord(words.x);
    const float2 b = UnpackWord(words.y);
    const float2 c = UnpackWord(words.z);
    const float2 d = UnpackWord(words.w);
    return {{a.x, a.y, b.x, b.y, c.x, c.y, d.x, d.y}};
  }
};

// The sums of one output over the packs from `first` on that this thread of its team owns.
template <typename T, int kRows>
__device__ void AddPacks(const LinearArgs& args, const T* x, const T* weight, int32_t first,
                         int32_t step, float (&sums)[kRows]) {
  using Streamed = std::conditional_t<std::is_same_v<T, float>, StreamedFloats, StreamedBFloat16s>;
  for (int32_t begin = first; begin < args.in_dim; begin += kAhead * step) {
    Streamed ahead[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i * step < args.in_dim) ahead[i].Load(weight + begin + i * step);
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int32_t k = begin + i * step;
      if (k >= args.in_dim) break;
      const Pack w = ahead[i].Unpacked();
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const Pack xr = LoadPack(x + r * args.x_stride + k);
#pragma unroll
        for (int c = 0; c < kPack; ++c) sums[r] = fmaf(xr.v[c], w.v[c], sums[r]);
      }
    }
  }
}

// Grid: (outputs, `kThreads` / `team` a block; products of the batch). A team of threads, part of a
// warp, owns one output of all rows; what it adds up in which order is a matter of in_dim alone.
// Bound by memory.
template <typename T, typename Y, int kRows>
__global__ __launch_bounds__(kThreads) void LinearFewRowsKernel(
    const __grid_constant__ LinearArgs args, int32_t team) {
  EnterStream();
  const auto output = static_cast<int32_t>((blockIdx.x * kThreads + threadIdx.x) / team);
  const int32_t member = static_cast<int32_t>(threadIdx.x) % team;
  const T* const x = static_cast<const T*>(args.x) + blockIdx.y * args.x_step;
  const T* const weight = static_cast<const T*>(args.weight) + blockIdx.y * args.weight_step;
  float sums[kRows] = {};
  if (output < args.out_dim) {
    AddPacks<T, kRows>(args, x, weight + int64_t{output} * args.in_dim, member * kPack,
                       team * kPack, sums);
  }
#pragma unroll
  for (float& sum : sums) {
    for (int32_t offset = team / 2; offset > 0; offset /= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, offset);
    }
  }
  if (member != 0 || output >= args.out_dim) return;
  Y* const y = static_cast<Y*>(args.y) + blockIdx.y * args.y_step + output;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    Y* const at = y + r * args.y_stride;
    *at = FromFloat<Y>(args.accumulate ? ToFloat(*at) + sums[r] : sums[r]);
  }
}

template <typename T, typename Y, int kRows = 1>
void Launch(const LinearArgs& args, int32_t team, cudaStream_t stream) {
  if constexpr (kRows < kLinearFewRows) {
    if (args.rows > kRows) return Launch<T, Y, kRows + 1>(args, team, stream);
  }
  const int64_t threads = int64_t{args.out_dim} * team;
  const dim3 grid(static_cast<unsigned>((threads + kThreads - 1) / kThreads), args.batch);
  LaunchKernel({grid, kThreads}, stream, LinearFewRowsKernel<T, Y, kRows>, args, team);
}

}  // namespace

void LinearFewRowsCuda(const LinearArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(args.rows >= 1 && args.rows <= kLinearFewRows && args.batch <= 65535);
  // As many threads as have a pack each, at most a warp.
  int32_t team = 1;
  while (team < kWarp && team * kPack < args.in_dim) team *= 2;
  DispatchDType(args.x_dtype, [&](auto zero) {
    using T = decltype(zero);
    if (args.y_dtype == DType::kFloat32) {
      Launch<T, float>(args, team, stream);
    } else {
      Launch<T, T>(args, team, stream);
    }
  });
}

}  // namespace sluice
