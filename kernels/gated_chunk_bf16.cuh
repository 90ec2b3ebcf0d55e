// What the kernels of the chunkwise form in bfloat16 share. They run on tensor cores; the state is
// float32 between chunks, and rounded to bfloat16 only as an operand of a chunk's output, the same
// wherever it came from.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/check.h"
#include "kernels/gated_chunk.cuh"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"

namespace sluice {

using Bf16 = __nv_bfloat16;

constexpr int kChunkThreads = 128;
constexpr int kSlice = 64;  // channels of K, or columns of V, of a shared tile
constexpr int kSliceTiles = kSlice / kTile;
constexpr int kPitch = kSlice + 8;  // rows 144 bytes apart: ldmatrix without bank conflicts
constexpr int kCrossTiles = kLowerTiles - kChunkTiles;  // tiles of A below its diagonal ones

__device__ inline float2 Pair(float x) { return make_float2(x, x); }
__device__ inline float2 Added(float2 a, float2 b) { return make_float2(a.x + b.x, a.y + b.y); }
__device__ inline float2 Times(float2 a, float2 b) { return make_float2(a.x * b.x, a.y * b.y); }
__device__ inline float2 Exp(float2 a) { return make_float2(expf(a.x), expf(a.y)); }
__device__ inline void StoreWord(Bf16* at, float2 x) {
  *reinterpret_cast<uint32_t*>(at) = PackWord(x.x, x.y);
}

// Row tile of number `index` of a triangle whose row r holds r + 1 tiles.
__device__ inline int TriangleRow(int index) { return (index >= 1) + (index >= 3) + (index >= 6); }
// Position of tile (row, col) of the triangle.
__device__ constexpr int LowerTile(int row, int col) { return row * (row + 1) / 2 + col; }
// Position of tile (row, col) of the triangle without its diagonal.
__device__ constexpr int CrossTile(int row, int col) { return row * (row - 1) / 2 + col; }

// Decays of two channels between a row tile and the others of its chunk.
struct TileDecays {
  float2 before;                  // from the chunk's start to the tile's
  float2 after[kChunkTiles + 1];  // from the tile's end to the start of tile [i], of later ones
  float2 chunk;                   // from the chunk's start to its end
};

// Those of row tile `tile`, from the sums of each tile's log gates.
__device__ inline TileDecays TileDecaysOf(const float (&totals)[kChunkTiles][kSlice], int tile,
                                          int lane) {
  TileDecays decays;
  float2 earlier = Pair(0.0F);
  float2 later = Pair(0.0F);
  float2 all = Pair(0.0F);
#pragma unroll
  for (int t = 0; t <= kChunkTiles; ++t) {
    decays.after[t] = Exp(later);  // Used for t > tile only.
    const float2 total = t < kChunkTiles ? LoadPair(&totals[t][2 * lane]) : Pair(0.0F);
    earlier = Added(earlier, t < tile ? total : Pair(0.0F));
    later = Added(later, t > tile ? total : Pair(0.0F));
    all = Added(all, total);
  }
  decays.before = Exp(earlier);
  decays.chunk = Exp(all);
  return decays;
}

// What a block of an output kernel works on.
struct OutputBlock {
  int chunk;
  int head;
  int value0;  // first column
};

// How many blocks there are, of `columns` columns each.
inline int OutputBlocks(const ChunkParams& params, int columns) {
  const GatedShape& s = params.args.shape;
  const int64_t heads = int64_t{params.args.chunk_count} * s.heads;
  const int64_t blocks = heads * ((s.value_dim + columns - 1) / columns);
  SLUICE_CHECK(blocks <= INT32_MAX);
  return static_cast<int>(blocks);
}

// The last chunks come first: their states, which were written last, may still be in the cache.
__device__ inline OutputBlock OutputBlockOf(const ChunkParams& p, int columns) {
  const GatedShape& s = p.args.shape;
  const int slices = (s.value_dim + columns - 1) / columns;
  const int block = static_cast<int>(blockIdx.x) / slices;
  OutputBlock of;
  of.value0 = static_cast<int>(blockIdx.x) % slices * columns;
  of.head = block % s.heads;
  of.chunk = p.args.chunk_count - 1 - block / s.heads;
  return of;
}

// Shared memory that a block may have on every GPU of compute capability 8.0 and up: that of 8.6.
constexpr int kMostShared = 99 << 10;

// The form of what a first kernel puts out (gated_chunk.cuh).
enum class OperandForm : uint8_t { kFragments, kImages };

// The kernels' launches.
void PrepareBFloat16(const ChunkParams& params, OperandForm form, cudaStream_t stream);
void ScoresBFloat16(const ChunkParams& params, OperandForm form, cudaStream_t stream);
void WalkBFloat16(const ChunkParams& params, cudaStream_t stream);
void ValuesBFloat16(const ChunkParams& params, cudaStream_t stream);
void StatesBFloat16(const ChunkParams& params, cudaStream_t stream);
void OutputBFloat16(const ChunkParams& params, cudaStream_t stream);
void ValueOutputBFloat16(const ChunkParams& params, cudaStream_t stream);

}  // namespace sluice
