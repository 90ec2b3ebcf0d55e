// What the two number formats of the chunkwise form share: three kernels each, one after another,
// and the workspace between them.
//
//   prepare  (chunk, head): decayed queries and keys, the chunk's decay, and the matrix A
//   states   (segment, head, tile of S): walks the segment's chunks; writes the state before each
//   output   (chunk, head, tile of V): o = queries * state + A v
//
// Gated values take one kernel instead, of both formats, which needs no workspace:
//
//   scan     (segment, head, tile of V): one token after another
//
// Decays are only ever products of numbers <= 1 and exponentials of sums of numbers <= 0: nothing
// overflows, and an underflow is a term that is as good as zero.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/gated_chunk.h"

namespace sluice {

// Arrays of the workspace. In float32 they are row-major. In bfloat16 they are tensor core
// fragments (mma.cuh), tiles of 16x16 of 32 lanes x 16 bytes: query [chunk, head, row tile, K tile]
// as A; key [chunk, kv head, row tile, K tile] as B; attention [chunk, head, 10 tiles of the lower
// triangle, row by row] as A; state [chunk, kv head, K tile, V tile] as B.
struct ChunkBuffers {
  void* query;      // [chunks, H, kChunk, K]: scale * q_i * exp(G_i), or G_{i-1}
  void* key;        // [chunks, kv heads, kChunk, K]: c_j k_j * exp(G_C - G_j)
  float* decay;     // [chunks, kv heads, K]: exp(G_C)
  void* attention;  // [chunks, H, kChunk, kChunk]: scale * A, or its lower tiles
  void* state;      // [chunks, kv heads, K, V]: S_0
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
void GatedChunkScan(const GatedChunkArgs& args, cudaStream_t stream);

}  // namespace sluice
