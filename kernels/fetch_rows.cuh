// Copies of rows of bytes to shared memory by a warp, whose end a barrier says.
#pragma once

#include <cstdint>

#include "kernels/bulk_copy.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

// Arrivals at a barrier of one fetch.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
constexpr int kFetchArrivals = 1;
#else
constexpr int kFetchArrivals = kWarp;
#endif

struct FetchedRows {
  void* to;
  int32_t to_pitch;  // bytes from one row to the next, a multiple of 16
  const void* from;
  int64_t from_pitch;  // likewise
  int32_t bytes;       // of a row, a multiple of 16
  int32_t rows;
};

// All lanes of a warp start copying; the phase of `full` lasts until all is there.
__device__ inline void FetchRows(const FetchedRows& r, Barrier& full) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  auto* const to = static_cast<char*>(r.to);
  const auto* const from = static_cast<const char*>(r.from);
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (lane == 0) full.ArriveExpecting(r.rows * r.bytes);
  __syncwarp();
  for (int32_t row = lane; row < r.rows; row += kWarp) {
    BulkCopy(to + row * r.to_pitch, from + row * r.from_pitch, r.bytes, full);
  }
  __syncwarp();  // No lane is a phase ahead.
#else
  for (int32_t row = 0; row < r.rows; ++row) {
    for (int32_t at = 16 * lane; at < r.bytes; at += 16 * kWarp) {
      CopyAsync(to + row * r.to_pitch + at, from + row * r.from_pitch + at, true);
    }
  }
  full.ArriveWithCopies();
#endif
}

// Before a warp that fetched ends: below 9.0 no thread ends before its copies.
__device__ inline void EndFetches() {
  CopyAsyncCommit();
  CopyAsyncWait<0>();
}

}  // namespace sluice
