// Sums, maxima and running sums over a warp and over a block, in an order that is fixed by the
// thread numbers alone, so that they give the same bits every time.
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

// Sum of the values of this thread and of all before it; `*total` gets that of the block.
template <int kThreads>
__device__ inline uint64_t BlockRunningSum(uint64_t value, uint64_t* total) {
  __shared__ unsigned long long partial[kThreads / kWarp];
  const int lane = threadIdx.x % kWarp;
  unsigned long long sum = value;
#pragma unroll
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const unsigned long long before = __shfl_up_sync(kAllLanes, sum, offset);
    if (lane >= offset) sum += before;
  }
  if (lane == kWarp - 1) partial[threadIdx.x / kWarp] = sum;
  __syncthreads();
  uint64_t all = 0;
  uint64_t earlier = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) {
    if (warp == threadIdx.x / kWarp) earlier = all;
    all += partial[warp];
  }
  __syncthreads();
  *total = all;
  return earlier + sum;
}

}  // namespace sluice
