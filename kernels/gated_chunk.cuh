// What the two number formats of the chunkwise form share: kernels, one after another, and the
// workspace between them.
//
//   prepare  (chunk, head): decayed queries and keys, the chunk's decay, and the matrix A
//   states   (segment, head, tile of S): walks the segment's chunks; writes the state before each
//   output   (chunk, head, tile of V): o = queries * state + A v
//
// Gated values decay on their own side as well. One kernel more, before states, prepares them, and
// the output is another one, which decays its sums from row tile to row tile:
//
//   values   (chunk, head, tile of V): values decayed to the chunk's end, and its decay of them
//
// Where a row has one decay for all channels of K, bfloat16 leaves queries and keys as they are:
//
//   scores   instead of prepare: q k^T, once for the heads that share them, times decays
//
// Decays are only ever products of numbers <= 1 and exponentials of sums of numbers <= 0: nothing
// overflows, and an underflow is a term that is as good as zero.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/gated_chunk.h"

namespace sluice {

// Where the decays of a chunk in bfloat16 are put.
enum class ChunkKind : uint8_t {
  kChannels,  // in queries and keys, channel by channel
  kColumns,   // there, and in values and sums, column by column of V
  kRows,      // in A, values and sums, row by row
};

constexpr ChunkKind ChunkKindOf(const GatedShape& shape) {
  if (shape.value_gate) return ChunkKind::kColumns;
  return shape.gate == GateKind::kVector ? ChunkKind::kChannels : ChunkKind::kRows;
}

// Arrays of the workspace, null where the kind has none. In float32, which knows no rows of one
// decay, they are row-major. In bfloat16 they are tensor core fragments (mma.cuh), tiles of 16x16
// of 32 lanes x 16 bytes: query [chunk, head, row tile, K tile] as A; key [chunk, kv head, row
// tile, K tile] as B; attention [chunk, head, 10 tiles of the lower triangle, row by row] as A;
// value [chunk, kv head, row tile, V tile] as A, transposed; state [chunk, kv head, K tile, V tile]
// as B.
struct ChunkBuffers {
  void* query;         // [chunks, H, kChunk, K]: scale * q_i * exp(G_i), or G_{i-1}
  void* key;           // [chunks, kv heads, kChunk, K]: c_j k_j * exp(G_C - G_j)
  float* decay;        // [chunks, kv heads, K]: exp(G_C)
  void* attention;     // [chunks, H, kChunk, kChunk]: scale * A, or its lower tiles
  void* value;         // [chunks, kv heads, kChunk, V]: v_j * exp(B_C - B_j)
  float* value_decay;  // [chunks, kv heads, V]: exp(B_C)
  // Of rows with one decay, instead of queries and keys.
  float* query_weight;  // [chunks, H, kChunk]: scale * exp(G_i), or G_{i-1}
  float* value_weight;  // [chunks, kv heads, kChunk]: c_j * exp(G_C - G_j)
  void* state;          // [chunks, kv heads, K, V]: S_0
};

struct ChunkParams {
  GatedChunkArgs args;
  ChunkBuffers buffers;
};

constexpr int kTile = 16;
static_assert(kGatedDimMultiple % kTile == 0, "K and V are whole tiles");
constexpr int kChunkTiles = kChunk / kTile;                       // 4
constexpr int kLowerTiles = kChunkTiles * (kChunkTiles + 1) / 2;  // 10
constexpr int64_t kTileBytes = int64_t{kTile} * kTile * 2;        // of bfloat16

void GatedChunkBFloat16(const ChunkParams& params, cudaStream_t stream);
void GatedChunkFloat32(const ChunkParams& params, cudaStream_t stream);

}  // namespace sluice
