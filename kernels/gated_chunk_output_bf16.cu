// The last kernel of the chunkwise form in bfloat16: what queries read of the state, and A of V.
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kOutputV = 128;               // columns of a block, 32 of a warp
constexpr int kOutputPitch = kOutputV + 8;  // 272 bytes: no bank conflicts

// kRing: K tiles of the state on their way to a warp.
template <int kRing>
struct OutputShared {
  uint4 attention[kLowerTiles][kWarp];  // fragments
  uint4 state[kChunkThreads / kWarp][kRing][2]
             [kWarp];                // fragments, each lane's read by itself alone
  Bf16 value[kChunk][kOutputPitch];  // then the output, each warp its own columns
  uint4 query[1];                    // fragments [row tile][K tile][lane], to the end
};

template <int kRing>
constexpr int OutputBytes(int key_dim) {
  return static_cast<int>(sizeof(OutputShared<kRing>) +
                          kChunkTiles * (key_dim / kTile) * kTileBytes);
}

// As long as it may be with all but the largest K; the shorter one leaves room for any.
constexpr int kLongRing = 4;
constexpr int kShortRing = 3;
static_assert(OutputBytes<kShortRing>(kMaxGatedDim) <= kMostShared, "any K fits on any GPU");

// Starts copying the chunk's queries, A and values.
template <int kRing>
__device__ void LoadOutputOperands(const ChunkParams& p, const ChunkSpan& span, int64_t head_index,
                                   int kv_head, int value0, OutputShared<kRing>& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int query_words = kChunkTiles * (s.key_dim / kTile) * kWarp;
  const uint4* const queries =
      static_cast<const uint4*>(p.buffers.query) + head_index * query_words;
  for (int i = threadIdx.x; i < query_words; i += kChunkThreads) {
    CopyAsync(shared.query + i, queries + i, true);
  }
  const uint4* const attention =
      static_cast<const uint4*>(p.buffers.attention) + head_index * kLowerTiles * kWarp;
  for (int i = threadIdx.x; i < kLowerTiles * kWarp; i += kChunkThreads) {
    CopyAsync(&shared.attention[0][0] + i, attention + i, true);
  }
  const Bf16* const values =
      static_cast<const Bf16*>(op.v) + span.row * op.v_stride + int64_t{kv_head} * s.value_dim;
  for (int i = threadIdx.x; i < kChunk * kOutputV / kPack; i += kChunkThreads) {
    const int row = i / (kOutputV / kPack);
    const int col = i % (kOutputV / kPack) * kPack;
    const bool valid = row < span.length && value0 + col < s.value_dim;
    CopyAsync(&shared.value[row][col], values + (valid ? row * op.v_stride + value0 + col : 0),
              valid);
  }
  CopyAsyncCommit();
}

// Starts copying a lane's words of the state's K tile `key_tile`, two V tiles of the warp's.
__device__ void LoadStateTile(const uint4* state, int key_tile, int key_tiles, int value_tile,
                              int value_tiles, int lane, uint4 (*slot)[kWarp]) {
  if (key_tile < key_tiles) {
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const bool valid = value_tile + n < value_tiles;
      const int64_t tile = int64_t{key_tile} * value_tiles + (valid ? value_tile + n : 0);
      CopyAsync(&slot[n][lane], state + tile * kWarp + lane, valid);
    }
  }
  CopyAsyncCommit();
}

// Rounds a warp's 64 x 32 sums into its own columns of `tile` and stores its rows from there, 16
// bytes a lane.
__device__ void StoreWarpOutput(const ChunkParams& p, const ChunkSpan& span, int head, int value0,
                                const float (&sum)[kChunkTiles][4][4], Bf16 (*tile)[kOutputPitch]) {
  const GatedShape& s = p.args.shape;
  const int lane = threadIdx.x % kWarp;
  const int column0 = threadIdx.x / kWarp * 32;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kChunkTiles; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      Bf16* const at = &tile[m * kTile + lane / 4][column0 + n * 8 + lane % 4 * 2];
      StoreWord(at, make_float2(sum[m][n][0], sum[m][n][1]));
      StoreWord(at + 8 * kOutputPitch, make_float2(sum[m][n][2], sum[m][n][3]));
    }
  }
  __syncwarp();
  const int column = column0 + lane % 4 * kPack;
  if (value0 + column >= s.value_dim) return;
  Bf16* const out = static_cast<Bf16*>(p.args.operands.out) +
                    (int64_t{span.row} * s.heads + head) * s.value_dim + value0 + column;
  for (int row = lane / 4; row < span.length; row += kWarp / 4) {
    *reinterpret_cast<uint4*>(out + int64_t{row} * s.heads * s.value_dim) =
        *reinterpret_cast<const uint4*>(&tile[row][column]);
  }
}

// Grid: (chunks x tiles of V, heads). A block owns 64 rows by 128 columns of the output, a warp 32
// columns, float32 in registers. Queries, A and values are shared; the state comes to each lane as
// the words that it multiplies, kRing tiles ahead. Bound by memory: states, values in, output out.
template <int kRing>
__global__ __launch_bounds__(kChunkThreads) void OutputKernel(
    const __grid_constant__ ChunkParams p) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  OutputShared<kRing>& shared = *reinterpret_cast<OutputShared<kRing>*>(dynamic);
  const GatedShape& s = p.args.shape;
  const int value_blocks = (s.value_dim + kOutputV - 1) / kOutputV;
  const int chunk = blockIdx.x / value_blocks;
  const int value0 = blockIdx.x % value_blocks * kOutputV;
  const int head = blockIdx.y;
  const int kv_head = head / (s.heads / s.kv_heads);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int key_tiles = s.key_dim / kTile;
  const int value_tiles = s.value_dim / kTile;
  const int value_tile = (value0 + warp * 32) / kTile;
  const ChunkSpan span = p.args.chunks[chunk];
  const uint4* const state =
      static_cast<const uint4*>(p.buffers.state) +
      (int64_t{chunk} * s.kv_heads + kv_head) * key_tiles * value_tiles * kWarp;

  LoadOutputOperands(p, span, int64_t{chunk} * s.heads + head, kv_head, value0, shared);
  for (int t = 0; t < kRing; ++t) {
    LoadStateTile(state, t, key_tiles, value_tile, value_tiles, lane, shared.state[warp][t]);
  }
  CopyAsyncWait<kRing>();
  __syncthreads();

  float sum[kChunkTiles][4][4] = {};
  for (int t = 0; t < key_tiles; ++t) {
    CopyAsyncWait<kRing - 1>();
    uint4(*const slot)[kWarp] = shared.state[warp][t % kRing];
    const uint4 b0 = slot[0][lane];
    const uint4 b1 = slot[1][lane];
#pragma unroll
    for (int m = 0; m < kChunkTiles; ++m) {
      const uint4 a = shared.query[(m * key_tiles + t) * kWarp + lane];
      Mma(sum[m][0], a, b0.x, b0.y);
      Mma(sum[m][1], a, b0.z, b0.w);
      Mma(sum[m][2], a, b1.x, b1.y);
      Mma(sum[m][3], a, b1.z, b1.w);
    }
    LoadStateTile(state, t + kRing, key_tiles, value_tile, value_tiles, lane, slot);
  }
#pragma unroll
  for (int row = 0; row < kChunkTiles; ++row) {  // of the values, column tile of A
    const Bf16* const values = &shared.value[row * kTile][warp * 32];
    const uint4 b0 = LoadBFromColumns(values, kOutputPitch, lane);
    const uint4 b1 = LoadBFromColumns(values + kTile, kOutputPitch, lane);
#pragma unroll
    for (int m = row; m < kChunkTiles; ++m) {
      const uint4 a = shared.attention[m * (m + 1) / 2 + row][lane];
      Mma(sum[m][0], a, b0.x, b0.y);
      Mma(sum[m][1], a, b0.z, b0.w);
      Mma(sum[m][2], a, b1.x, b1.y);
      Mma(sum[m][3], a, b1.z, b1.w);
    }
  }
  CopyAsyncWait<0>();
  StoreWarpOutput(p, span, head, value0, sum, shared.value);
}

template <int kRing>
void LaunchOutput(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int blocks = params.args.chunk_count * ((s.value_dim + kOutputV - 1) / kOutputV);
  const int bytes = OutputBytes<kRing>(s.key_dim);
  AllowMostShared(OutputKernel<kRing>);
  OutputKernel<kRing><<<dim3(blocks, s.heads), kChunkThreads, bytes, stream>>>(params);
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void OutputBFloat16(const ChunkParams& params, cudaStream_t stream) {
  if (OutputBytes<kLongRing>(params.args.shape.key_dim) <= kMostShared) {
    LaunchOutput<kLongRing>(params, stream);
  } else {
    LaunchOutput<kShortRing>(params, stream);
  }
}

}  // namespace sluice
