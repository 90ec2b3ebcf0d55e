// Sums and maxima over a warp and over a block, in an order that is fixed by the thread numbers
// alone, so that they give the same bits every time.
#pragma once

#include <cstdint>

namespace sluice {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

struct Plus {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

struct Larger {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Every lane gets the result.
template <typename T, typename Combine>
__device__ inline T WarpReduce(T value, Combine combine) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  return value;
}

// Every thread gets the result. All threads of the block take part; may be called again at once.
template <int kThreads, typename T, typename Combine>
__device__ inline T BlockReduce(T value, Combine combine) {
  static_assert(kThreads % kWarp == 0, "whole warps");
  __shared__ T partial[kThreads / kWarp];
  value = WarpReduce(value, combine);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
  __syncthreads();
  T result = partial[0];
#pragma unroll
  for (int warp = 1; warp < kThreads / kWarp; ++warp) result = combine(result, partial[warp]);
  __syncthreads();
  return result;
}

// Sum of the values of this lane and of all before it.
__device__ inline unsigned long long WarpRunningSum(unsigned long long value) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned long long before = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += before;
  }
  return value;
}

}  // namespace sluice
