// Chunkwise form of gated linear attention: prefill of packed segments, each from its own state.
//
// The recurrence of gated_shape.h. Within a chunk of C tokens, G_i and B_i the sums of the log
// gates of keys and of values up to and with token i (B = 0 without gated values), S_0 the state
// before it:
//   o_i  = scale * exp(B_i) * [(q_i * exp(G_i)) S_0] + scale * sum_{j<=i} A_ij exp(B_i - B_j) * v_j
//   A_ij = sum_c q_ic c_j k_jc exp(G_ic - G_jc)
//   S_C  = diag(exp(G_C)) S_0 diag(exp(B_C))
//          + sum_j (c_j k_j * exp(G_C - G_j))^T (v_j * exp(B_C - B_j))
// Read exclusively, G_{i-1} and B_{i-1} stand for G_i and B_i in the first two, A_ii = sum_c q_ic
// u_c c_i k_ic, and v_i is not decayed in o_i.
//
// Chunks lie on the grid of absolute positions (segment.h). The state between chunks is float32 in
// the slot or in registers with the same rounding, so a row's bits do not depend on how its prompt
// was split on the grid, on the slot, or on the rest of the batch; but a GPU of compute capability
// 9.0 that is not asked to be batch invariant (CudaOptions) cuts segments into parts when there are
// too few for all of it, and adds what each part gives to the state before it. Masked entries are
// selected to zero, never multiplied. Decays are only ever products of numbers <= 1 and
// exponentials of sums of numbers <= 0, those between two rows taken over the rows between them or
// from row tile to row tile, so gates may be as strong as they like, -infinity included; only where
// a row tile decays by less than exp(-60) are its keys grown back to its start instead. In bfloat16
// what the state and the output multiply on tensor cores is rounded to it once decayed (c_j k_j, or
// v_j if a row has one decay; the step keeps both in float32).
//
// A device may walk gated values token by token, as the CPU does.
//
// States of another format than float32 without a ring (state_format.h) are unpacked into the
// workspace and packed when the segment ends, the ring empty: there a prompt's bits depend on where
// it was split.
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
  // Device::GatedChunkWorkspaceBytes(shape, segment_count, chunk_count) bytes, 256-aligned.
  void* workspace;
};

// Bytes that the op has to move: operands once, output once, each segment's matrix read and
// written.
inline int64_t GatedChunkBytes(const GatedShape& s, bool has_input_scale, int64_t rows,
                               int64_t segments) {
  return rows * GatedRowBytes(s, has_input_scale) + segments * 2 * s.Parts().counts * 4;
}

// Operations with dense chunks: state read and update, and the two products inside a chunk.
inline int64_t GatedChunkFlops(const GatedShape& s, int64_t rows) {
  return rows * s.heads *
         (4 * int64_t{s.key_dim} * s.value_dim + 2 * kChunk * (s.key_dim + s.value_dim));
}

}  // namespace sluice
