// The second kernel of the chunkwise form in bfloat16: the state before each chunk.
#include <algorithm>

#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kStages = 4;

struct StatesStage {
  uint4 key[kChunkTiles][kSliceTiles][kWarp];  // fragments
  Bf16 value[kChunk][kPitch];
  float decay[kSlice];
};

// Starts copying what chunk `index` of the segment needs; rows and columns beyond the end are zero.
__device__ void LoadStage(const ChunkParams& p, const Segment& segment, int index, int chunk_count,
                          int key0, int value0, StatesStage& stage) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  if (index < chunk_count) {
    const int kv_head = blockIdx.y;
    const int64_t kv_index = int64_t{segment.first_chunk + index} * s.kv_heads + kv_head;
    const int key_tiles = s.key_dim / kTile;
    const int tile0 = key0 / kTile;
    const uint4* const keys =
        static_cast<const uint4*>(p.buffers.key) + kv_index * kChunkTiles * key_tiles * kWarp;
    for (int i = threadIdx.x; i < kChunkTiles * kSliceTiles * kWarp; i += kChunkThreads) {
      const int lane = i % kWarp;
      const int tile = i / kWarp % kSliceTiles;
      const int row = i / kWarp / kSliceTiles;
      const bool valid = tile0 + tile < key_tiles;
      const int64_t from = (int64_t{row} * key_tiles + (valid ? tile0 + tile : 0)) * kWarp + lane;
      CopyAsync(&stage.key[row][tile][lane], keys + from, valid);
    }
    // Chunks after the first begin on the grid of positions.
    const int offset = segment.position % kChunk;
    const int begin = max(index * kChunk - offset, 0);
    const int length = min((index + 1) * kChunk - offset, segment.length) - begin;
    const Bf16* const values = static_cast<const Bf16*>(op.v) +
                               int64_t{segment.row + begin} * op.v_stride +
                               int64_t{kv_head} * s.value_dim;
    for (int i = threadIdx.x; i < kChunk * kSlice / kPack; i += kChunkThreads) {
      const int row = i / (kSlice / kPack);
      const int col = i % (kSlice / kPack) * kPack;
      const bool valid = row < length && value0 + col < s.value_dim;
      const int64_t from = valid ? row * op.v_stride + value0 + col : 0;
      CopyAsync(&stage.value[row][col], values + from, valid);
    }
    if (threadIdx.x < kSlice / 4) {
      const int col = threadIdx.x * 4;
      const bool valid = key0 + col < s.key_dim;
      const float* const decays = p.buffers.decay + kv_index * s.key_dim;
      CopyAsync(&stage.decay[col], decays + (valid ? key0 + col : 0), valid);
    }
  }
  CopyAsyncCommit();
}

// A warp's 32 columns of V by 32 channels of K of the transposed state.
using StateTile = float[2][4][4];

// Calls visit(number, channel, column) for each of the lane's numbers.
template <typename Visit>
__device__ void ForEachState(StateTile& state, int key, int value, int lane, Visit visit) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        visit(state[m][n][i], key + n * 8 + lane % 4 * 2 + i % 2,
              value + m * kTile + lane / 4 + i / 2 * 8);
      }
    }
  }
}

// Writes the state before a chunk, rounded, as fragments.
__device__ void WriteState(const StateTile& state, int key, int value, int lane, int key_tiles,
                           int value_tiles, uint4* fragments) {
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int key_tile = key / kTile + pair;
      const int value_tile = value / kTile + m;
      if (key_tile >= key_tiles || value_tile >= value_tiles) continue;
      const float(&low)[4] = state[m][2 * pair];
      const float(&high)[4] = state[m][2 * pair + 1];
      fragments[(int64_t{key_tile} * value_tiles + value_tile) * kWarp + lane] =
          make_uint4(PackWord(low[0], low[1]), PackWord(high[0], high[1]), PackWord(low[2], low[3]),
                     PackWord(high[2], high[3]));
    }
  }
}

// Grid: (tiles of K x tiles of V, kv heads, segments). A block owns 64 channels by 64 columns of
// one state, float32 in registers (2 x 2 warps), and walks the segment's chunks, kStages - 1 of
// them on their way. Bound by the latency of one chunk after another, and by the states' stores.
__global__ __launch_bounds__(kChunkThreads) void StatesKernel(
    const __grid_constant__ ChunkParams p) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  StatesStage* const stages = reinterpret_cast<StatesStage*>(dynamic);
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const Segment segment = p.args.segments[blockIdx.z];
  const int chunk_count = ChunkCount(segment.position, segment.length);
  const int key_slices = (s.key_dim + kSlice - 1) / kSlice;
  const int key0 = blockIdx.x % key_slices * kSlice;
  const int value0 = blockIdx.x / key_slices * kSlice;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int warp_key = warp / 2 * 32;
  const int warp_value = warp % 2 * 32;
  const int key_tiles = s.key_dim / kTile;
  const int value_tiles = s.value_dim / kTile;

  for (int i = 0; i < kStages - 1; ++i) {
    LoadStage(p, segment, i, chunk_count, key0, value0, stages[i]);
  }
  float* const slot =
      op.states + segment.slot * op.slot_stride + int64_t{blockIdx.y} * s.key_dim * s.value_dim;
  StateTile state;
  ForEachState(state, key0 + warp_key, value0 + warp_value, lane,
               [&](float& number, int channel, int column) {
                 const bool valid = channel < s.key_dim && column < s.value_dim;
                 number = valid ? slot[int64_t{channel} * s.value_dim + column] : 0.0F;
               });

  for (int c = 0; c < chunk_count; ++c) {
    CopyAsyncWait<kStages - 2>();
    __syncthreads();  // Chunk c is there for all, and all are done with chunk c - 1.
    LoadStage(p, segment, c + kStages - 1, chunk_count, key0, value0,
              stages[(c + kStages - 1) % kStages]);
    const StatesStage& stage = stages[c % kStages];
    const int64_t kv_index = int64_t{segment.first_chunk + c} * s.kv_heads + blockIdx.y;
    WriteState(state, key0 + warp_key, value0 + warp_value, lane, key_tiles, value_tiles,
               static_cast<uint4*>(p.buffers.state) + kv_index * key_tiles * value_tiles * kWarp);
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const float2 decay = LoadPair(&stage.decay[warp_key + n * 8 + lane % 4 * 2]);
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        state[m][n][0] *= decay.x;
        state[m][n][1] *= decay.y;
        state[m][n][2] *= decay.x;
        state[m][n][3] *= decay.y;
      }
    }
#pragma unroll
    for (int row = 0; row < kChunkTiles; ++row) {
      const uint4 b0 = stage.key[row][warp_key / kTile][lane];
      const uint4 b1 = stage.key[row][warp_key / kTile + 1][lane];
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const uint4 a =
            LoadAFromColumns(&stage.value[row * kTile][warp_value + m * kTile], kPitch, lane);
        Mma(state[m][0], a, b0.x, b0.y);
        Mma(state[m][1], a, b0.z, b0.w);
        Mma(state[m][2], a, b1.x, b1.y);
        Mma(state[m][3], a, b1.z, b1.w);
      }
    }
  }
  CopyAsyncWait<0>();
  ForEachState(state, key0 + warp_key, value0 + warp_value, lane,
               [&](float& number, int channel, int column) {
                 if (channel >= s.key_dim || column >= s.value_dim) return;
                 slot[int64_t{channel} * s.value_dim + column] = number;
               });
}

static_assert(kStages * sizeof(StatesStage) <= kMostShared, "the states fit on any GPU");

}  // namespace

void StatesBFloat16(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int slices = (s.key_dim + kSlice - 1) / kSlice * ((s.value_dim + kSlice - 1) / kSlice);
  AllowMostShared(StatesKernel);
  StatesKernel<<<dim3(slices, s.kv_heads, params.args.segment_count), kChunkThreads,
                 kStages * sizeof(StatesStage), stream>>>(params);
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
