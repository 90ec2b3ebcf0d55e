// The grid of kernels that do the same to every pack of some rows: blocks of whole rows where a row
// is narrow, and of parts of one where it is wide.
#pragma once

#include <algorithm>
#include <cstdint>

namespace sluice {

constexpr int kRowGridThreads = 256;  // of a block, at most

struct RowGrid {
  dim3 blocks;
  dim3 threads;
};

// Of rows of `packs` packs, both at least 1. Threads that neighbour each other own packs that do.
inline RowGrid GridOfRows(int32_t rows, int32_t packs) {
  const int32_t width = std::min(packs, kRowGridThreads);
  const int32_t parts = (packs + width - 1) / width;
  const int32_t height = std::min(kRowGridThreads / width, rows);
  const int32_t bands = std::min((rows + height - 1) / height, 65535);
  return {dim3(parts, bands), dim3(width, height)};
}

// The thread's pack of a row, the first of its rows, and how far the next ones are.
__device__ inline int32_t GridPack() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline int32_t GridRow() { return blockIdx.y * blockDim.y + threadIdx.y; }
__device__ inline int32_t GridRowStep() { return gridDim.y * blockDim.y; }

}  // namespace sluice
