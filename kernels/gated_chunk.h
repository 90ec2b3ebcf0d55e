// Chunkwise form of gated linear attention: prefill of packed segments, each from its own state.
//
// Within a chunk of C tokens, G_i the sum of log gates up to and with token i, S_0 the state before
// it:
//   o_i  = scale * [(q_i * exp(G_i)) S_0 + sum_{j<=i} A_ij v_j]
//   A_ij = sum_c q_ic k_jc exp(G_ic - G_jc)
//   S_C  = diag(exp(G_C)) S_0 + sum_j (k_j * exp(G_C - G_j))^T v_j
//
// Chunks lie on the grid of absolute positions (segment.h). The state between chunks is float32 in
// the slot or in registers with the same rounding, so a row's bits do not depend on how its prompt
// was split on the grid, on the slot, or on the rest of the batch. Masked entries are selected to
// zero, never multiplied. Gates as strong as exp(-16) a step stay exact to rounding: exponents of
// products never exceed the range.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), section 4 (chunkwise form, secondary chunking).
// Oracle: tests/kernels/gated_ref.h.
#pragma once

#include <cstdint>

#include "kernels/gated_shape.h"
#include "kernels/segment.h"

namespace sluice {

struct GatedChunkArgs {
  GatedShape shape;
  int32_t segment_count;
  const Segment* segments;  // [segment_count]
  int32_t chunk_count;      // sum of ChunkCount over segments
  const ChunkSpan* chunks;  // [chunk_count], by segment, then by row
  GatedOperands operands;   // indexed by batch row; rows outside the segments are not touched
  void* workspace;  // Device::GatedChunkWorkspaceBytes(shape, chunk_count) bytes, 256-aligned
};

// Bytes that the op has to move: operands once, output once, each segment's state read and written.
inline int64_t GatedChunkBytes(const GatedShape& s, int64_t rows, int64_t segments) {
  const int64_t row =
      (int64_t{s.heads} + s.kv_heads) * (s.key_dim + s.value_dim) * DTypeBytes(s.dtype) +
      int64_t{s.kv_heads} * s.key_dim * 4;
  return rows * row + segments * 2 * s.StateSize() * 4;
}

// Operations with dense chunks: state read and update, and the two products inside a chunk.
inline int64_t GatedChunkFlops(const GatedShape& s, int64_t rows) {
  return rows * s.heads *
         (4 * int64_t{s.key_dim} * s.value_dim + 2 * kChunk * (s.key_dim + s.value_dim));
}

}  // namespace sluice
