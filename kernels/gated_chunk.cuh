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
// Where the GPU can (gated_chunk_walk.cu), one kernel stands for states and output:
//
//   walk     (part of a segment, head, slab of V): the state stays in registers from chunk to chunk
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
// For a walk they are images (wgmma.cuh), zero where there is no row or channel: query and key
// [chunk, head, 64 channels of K], or where a row has one decay as they are, once for the heads
// that share them; attention [chunk, head]. K is then padded in decay as in the images.
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
  // Into how many parts a walk may cut a segment, to fill the GPU; in the kernel, into how many it
  // does, each of as many chunks but the last ones, the blocks of a cluster. What a part gives to
  // the next depends on where it began, and the bits of a segment so on its batch.
  int parts;
};

constexpr int kTile = 16;
static_assert(kGatedDimMultiple % kTile == 0, "K and V are whole tiles");
constexpr int kChunkTiles = kChunk / kTile;                       // 4
constexpr int kLowerTiles = kChunkTiles * (kChunkTiles + 1) / 2;  // 10
constexpr int64_t kTileBytes = int64_t{kTile} * kTile * 2;        // of bfloat16

// 64 channels of K each: 1, 2 or 4 in walks of K up to 256.
constexpr int ImagesOf(int key_dim) { return key_dim <= 64 ? 1 : (key_dim <= 128 ? 2 : 4); }
// How many images of queries a chunk has, of 64 channels.
constexpr int ImageHeads(const GatedShape& shape) {
  return ChunkKindOf(shape) == ChunkKind::kRows ? shape.QueryHeads() : shape.heads;
}
// Whether there is a walk for the shape.
constexpr bool HasWalk(const GatedShape& shape) {
  return shape.dtype == DType::kBFloat16 && shape.heads == shape.kv_heads && !shape.value_gate &&
         shape.key_dim <= 256;
}

void GatedChunkBFloat16(const ChunkParams& params, cudaStream_t stream);
void GatedChunkWalk(const ChunkParams& params, cudaStream_t stream);
void GatedChunkFloat32(const ChunkParams& params, cudaStream_t stream);

}  // namespace sluice
