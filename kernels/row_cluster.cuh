// Rows of numbers, each the work of one cluster of blocks: a block owns a part of the row and keeps
// it in shared memory where it fits, and what the blocks find they tell each other through theirs.
// Below compute capability 9.0 a cluster is one block.
//
// How many blocks share a row depends on the number of rows, so what they add up are integers.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/cluster.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

constexpr int kRowThreads = 512;      // of a block
constexpr int kRowBlocks = 3;         // of a multiprocessor at once
constexpr int32_t kPartQuads = 2048;  // 32 KB: the largest parts of which kRowBlocks fit

struct RowSplit {
  int32_t length;  // numbers of a row
  int32_t blocks;  // a row: a power of two
  int32_t part;    // numbers of a block: whole quads
  bool resident;   // whether a part fits into shared memory
};

// As many blocks as keep the GPU busy, and more if the parts are large. A block needs `other_bytes`
// of shared memory beside its part.
inline RowSplit SplitRows(int32_t rows, int32_t length, size_t other_bytes) {
  const int32_t quads = (length + 3) / 4;
  const int32_t at_once = kRowBlocks * MultiprocessorCount();
  const int32_t most = std::min(LargestCluster(), kMaxCluster);
  int32_t blocks = 1;
  while (2 * blocks <= most && blocks * kRowThreads < quads &&
         (quads > blocks * kPartQuads || int64_t{2} * blocks * rows <= at_once)) {
    blocks *= 2;
  }
  const int32_t part = (quads + blocks - 1) / blocks * 4;
  constexpr size_t kDeclared = 1 << 10;  // by the functions of reduce.cuh
  const bool resident = part * sizeof(float) + other_bytes + kDeclared <= LargestSharedBytes();
  return {length, blocks, part, resident};
}

inline LaunchShape RowLaunchShape(const RowSplit& split, int32_t rows, size_t other_bytes) {
  const size_t part_bytes = split.resident ? split.part * sizeof(float) : 0;
  const auto cluster = static_cast<uint32_t>(split.blocks);
  return {rows * cluster, kRowThreads, other_bytes + part_bytes, cluster};
}

// What a block owns.
struct RowPart {
  int32_t row;
  int32_t rank;    // of the block in its cluster
  int32_t blocks;  // of the cluster
  int32_t begin;   // in the row
  int32_t count;   // numbers; may be 0

  __device__ explicit RowPart(const RowSplit& split) : blocks(split.blocks) {
    row = static_cast<int32_t>(blockIdx.x) / blocks;
    rank = static_cast<int32_t>(blockIdx.x) % blocks;
    begin = min(rank * split.part, split.length);
    count = min(split.part, split.length - begin);
  }
};

// Every thread of the cluster gets the result. `from_blocks` is shared memory that serves one call.
template <typename Combine>
__device__ inline unsigned long long ClusterReduce(const RowPart& part, unsigned long long value,
                                                   Combine combine,
                                                   unsigned long long (&from_blocks)[kMaxCluster]) {
  value = BlockReduce<kRowThreads>(value, combine);
  if (part.blocks == 1) return value;
  if (threadIdx.x < part.blocks) *InBlock(&from_blocks[part.rank], threadIdx.x) = value;
  SyncCluster(part.blocks);
  value = from_blocks[0];
  for (int32_t block = 1; block < part.blocks; ++block) {
    value = combine(value, from_blocks[block]);
  }
  return value;
}

// Quads of a part: whole ones, 16-byte aligned, if resident; what lies behind the end is undefined.
// Quad q of a block is its thread q's, modulo kRowThreads.
template <bool kResident>
__device__ inline float4 LoadPartQuad(const float* part, int32_t quad, int32_t count) {
  const float* const from = part + 4 * quad;
  if (kResident) return LoadQuad(from);
  const int32_t left = count - 4 * quad;
  return make_float4(from[0], left > 1 ? from[1] : 0.0F, left > 2 ? from[2] : 0.0F,
                     left > 3 ? from[3] : 0.0F);
}
template <bool kResident>
__device__ inline void StorePartQuad(float* part, int32_t quad, int32_t count, float4 x) {
  float* const to = part + 4 * quad;
  if (kResident) {
    *reinterpret_cast<float4*>(to) = x;
    return;
  }
  const int32_t left = count - 4 * quad;
  to[0] = x.x;
  if (left > 1) to[1] = x.y;
  if (left > 2) to[2] = x.z;
  if (left > 3) to[3] = x.w;
}

// Calls visit(x, i) for the numbers of a part: x the i-th of them.
template <bool kResident, typename Visit>
__device__ inline void VisitPart(const float* part, int32_t count, const Visit& visit) {
  for (int32_t quad = threadIdx.x; 4 * quad < count; quad += kRowThreads) {
    const float4 four = LoadPartQuad<kResident>(part, quad, count);
    const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (4 * quad + i < count) visit(x[i], 4 * quad + i);
    }
  }
}

// `to`, of the block's shared or global memory, can be read after a __syncthreads.
__device__ inline void CopyPart(const float* from, int32_t count, float* to) {
  int32_t copied = 0;
  const auto addresses = reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(to);
  if (addresses % sizeof(float4) == 0) {
    copied = count / 4 * 4;
#pragma unroll 4
    for (int32_t quad = threadIdx.x; quad < count / 4; quad += kRowThreads) {
      reinterpret_cast<float4*>(to)[quad] = LoadQuad(from + 4 * quad);
    }
  }
#pragma unroll 4
  for (int32_t i = copied + threadIdx.x; i < count; i += kRowThreads) to[i] = from[i];
}

}  // namespace sluice
