// What the kernels of the chunkwise form in float32 share.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/gated_chunk.cuh"
#include "kernels/launch.cuh"

namespace sluice {

constexpr int kThreads = 256;
constexpr int kTileV = 64;                  // columns of a block
constexpr int kSplitV = kThreads / kTileV;  // threads that share a column

struct Indices {
  int64_t head;  // of [chunk, head]
  int64_t kv;    // of [chunk, kv head]
  int kv_head;
};

__device__ inline Indices IndicesOf(const GatedShape& s, int64_t chunk, int head) {
  const int kv_head = head / (s.heads / s.kv_heads);
  return {chunk * s.heads + head, chunk * s.kv_heads + kv_head, kv_head};
}

// What the values' side has: column `column` of the chunk's values, of their log gates if there are
// any, and the rows' strides.
struct ValueColumn {
  const float* value;
  int64_t value_stride;
  const float* gate;
  int64_t gate_stride;
};

__device__ inline ValueColumn ValueColumnOf(const GatedShape& s, const GatedOperands& op,
                                            int64_t row, int kv_head, int column) {
  const int64_t at = int64_t{kv_head} * s.value_dim + column;
  const int64_t gate_stride = int64_t{s.kv_heads} * s.value_dim;
  const float* const gate = op.value_log_decay;
  return {static_cast<const float*>(op.v) + row * op.v_stride + at, op.v_stride,
          gate == nullptr ? nullptr : gate + row * gate_stride + at, gate_stride};
}

// The launch of the last kernel.
void OutputFloat32(const ChunkParams& params, cudaStream_t stream);

}  // namespace sluice
