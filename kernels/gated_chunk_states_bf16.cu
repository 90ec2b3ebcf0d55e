// The second kernel of the chunkwise form in bfloat16: the state before each chunk.
#include <type_traits>

#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kThreads = 256;
constexpr int kStages = 4;

// 64 rows by 64 columns, on their way to registers.
struct FragmentSlice {
  uint4 tiles[kChunkTiles][kSliceTiles][kWarp];
};
struct RowSlice {
  Bf16 rows[kChunk][kPitch];
};

template <ChunkKind kKind>
struct alignas(128) StatesStage {
  std::conditional_t<kKind == ChunkKind::kRows, RowSlice, FragmentSlice> key;
  std::conditional_t<kKind == ChunkKind::kColumns, FragmentSlice, RowSlice> value;
  float decay[kSlice];  // by channel of K
  float column_decay[kKind == ChunkKind::kColumns ? kSlice : 4];
};

// The parts of a RowSlice that a thread copies: 8 columns of some rows.
constexpr int kRowParts = kSlice / kPack;
constexpr int kOwnRows = kChunk * kRowParts / kThreads;
__device__ int OwnColumn() { return threadIdx.x % kRowParts * kPack; }
__device__ int OwnRow(int n) { return (n * kThreads + threadIdx.x) / kRowParts; }

// Start copying columns [first, first + kSlice) of a matrix of 64 rows by `columns`, of which
// `rows` are there; what is not there is zero.
__device__ void LoadSlice(const void* fragments, int columns, int first, FragmentSlice& slice) {
  const int all_tiles = columns / kTile;
  const int tile0 = first / kTile;
#pragma unroll
  for (int n = 0; n < kChunkTiles * kSliceTiles * kWarp / kThreads; ++n) {
    const int i = n * kThreads + threadIdx.x;
    const int lane = i % kWarp;
    const int tile = i / kWarp % kSliceTiles;
    const int row = i / kWarp / kSliceTiles;
    const bool valid = tile0 + tile < all_tiles;
    const int from = (row * all_tiles + (valid ? tile0 + tile : 0)) * kWarp + lane;
    CopyAsync(&slice.tiles[row][tile][lane], static_cast<const uint4*>(fragments) + from, valid);
  }
}
__device__ void LoadSlice(const Bf16* matrix, int stride, int rows, int columns, int first,
                          RowSlice& slice) {
  const int col = OwnColumn();
  const bool has_column = first + col < columns;
#pragma unroll
  for (int n = 0; n < kOwnRows; ++n) {
    const int row = OwnRow(n);
    const bool valid = row < rows && has_column;
    const int64_t from = int64_t{valid ? row : 0} * stride + (has_column ? first + col : 0);
    CopyAsync(&slice.rows[row][col], matrix + from, valid);
  }
}
// The same of a row of floats.
__device__ void LoadDecays(const float* decays, int columns, int first, float (&slice)[kSlice]) {
  if (threadIdx.x >= kSlice / 4) return;
  const int col = threadIdx.x * 4;
  const bool valid = first + col < columns;
  CopyAsync(&slice[col], decays + (valid ? first + col : 0), valid);
}

// Starts copying what chunk `index` of the segment needs.
template <ChunkKind kKind>
__device__ void LoadStage(const ChunkParams& p, const Segment& segment, int index, int chunk_count,
                          int key0, int value0, StatesStage<kKind>& stage) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const ChunkBuffers& b = p.buffers;
  if (index < chunk_count) {
    const int kv_head = blockIdx.y;
    const int64_t kv_index = int64_t{segment.first_chunk + index} * s.kv_heads + kv_head;
    // Chunks after the first begin on the grid of positions.
    const int offset = segment.position % kChunk;
    const int begin = max(index * kChunk - offset, 0);
    const int length = min((index + 1) * kChunk - offset, segment.length) - begin;
    const int row = segment.row + begin;
    const auto key_stride = static_cast<int>(op.k_stride);
    const auto value_stride = static_cast<int>(op.v_stride);
    if constexpr (kKind == ChunkKind::kRows) {
      const Bf16* const keys = static_cast<const Bf16*>(op.k) + int64_t{row} * key_stride +
                               int64_t{kv_head / s.shared_keys} * s.key_dim;
      LoadSlice(keys, key_stride, length, s.key_dim, key0, stage.key);
    } else {
      const Bf16* const keys = static_cast<const Bf16*>(b.key) + kv_index * kChunk * s.key_dim;
      LoadSlice(keys, s.key_dim, key0, stage.key);
    }
    if constexpr (kKind == ChunkKind::kColumns) {
      const Bf16* const values =
          static_cast<const Bf16*>(b.value) + kv_index * kChunk * s.value_dim;
      LoadSlice(values, s.value_dim, value0, stage.value);
      LoadDecays(b.value_decay + kv_index * s.value_dim, s.value_dim, value0, stage.column_decay);
    } else {
      const Bf16* const values = static_cast<const Bf16*>(op.v) + int64_t{row} * value_stride +
                                 int64_t{kv_head} * s.value_dim;
      LoadSlice(values, value_stride, length, s.value_dim, value0, stage.value);
    }
    LoadDecays(b.decay + kv_index * s.key_dim, s.key_dim, key0, stage.decay);
  }
  CopyAsyncCommit();
}

// Keys of a row tile as B, and values as A, transposed.
__device__ uint4 KeysOf(const FragmentSlice& slice, int row, int channel, int lane) {
  return slice.tiles[row][channel / kTile][lane];
}
__device__ uint4 KeysOf(const RowSlice& slice, int row, int channel, int lane) {
  return LoadBFromColumns(&slice.rows[row * kTile][channel], kPitch, lane);
}
__device__ uint4 ValuesOf(const FragmentSlice& slice, int row, int column, int lane) {
  return slice.tiles[row][column / kTile][lane];
}
__device__ uint4 ValuesOf(const RowSlice& slice, int row, int column, int lane) {
  return LoadAFromColumns(&slice.rows[row * kTile][column], kPitch, lane);
}

// What multiplies the values of the thread's own rows, where a row has one decay.
struct RowWeights {
  float of[kOwnRows];
};

// Those of chunk `index` of the segment; behind the last one, its own.
__device__ RowWeights LoadWeights(const ChunkParams& p, const Segment& segment, int index,
                                  int chunk_count) {
  const int64_t chunk = segment.first_chunk + min(index, chunk_count - 1);
  const int64_t kv_index = chunk * p.args.shape.kv_heads + blockIdx.y;
  RowWeights weights;
#pragma unroll
  for (int n = 0; n < kOwnRows; ++n) {
    weights.of[n] = p.buffers.value_weight[kv_index * kChunk + OwnRow(n)];
  }
  return weights;
}

// Multiplies what the thread itself has copied, which no other has seen yet.
__device__ void WeighOwnRows(const RowWeights& weights, RowSlice& slice) {
#pragma unroll
  for (int n = 0; n < kOwnRows; ++n) {
    Bf16* const at = &slice.rows[OwnRow(n)][OwnColumn()];
    Pack values = LoadPack(at);
#pragma unroll
    for (int i = 0; i < kPack; ++i) values.v[i] *= weights.of[n];
    StorePack(at, values);
  }
}

// A warp's 16 columns of V by 32 channels of K of the transposed state.
using StateTile = float[4][4];

// Calls visit(number, channel, column) for each of the lane's numbers.
template <typename Visit>
__device__ void ForEachState(StateTile& state, int key, int value, int lane, Visit visit) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      visit(state[n][i], key + n * 8 + lane % 4 * 2 + i % 2, value + lane / 4 + i / 2 * 8);
    }
  }
}

// Writes the state before a chunk, rounded, as fragments.
__device__ void WriteState(const StateTile& state, int key, int value, int lane, int key_tiles,
                           int value_tiles, uint4* fragments) {
  const int value_tile = value / kTile;
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    const int key_tile = key / kTile + pair;
    if (key_tile >= key_tiles || value_tile >= value_tiles) continue;
    const float(&low)[4] = state[2 * pair];
    const float(&high)[4] = state[2 * pair + 1];
    fragments[(int64_t{key_tile} * value_tiles + value_tile) * kWarp + lane] =
        make_uint4(PackWord(low[0], low[1]), PackWord(high[0], high[1]), PackWord(low[2], low[3]),
                   PackWord(high[2], high[3]));
  }
}

// Decays the state over a chunk.
template <ChunkKind kKind>
__device__ void DecayState(const StatesStage<kKind>& stage, int key, int value, int lane,
                           StateTile& state) {
#pragma unroll
  for (int n = 0; n < 4; ++n) {
    const float2 decay = LoadPair(&stage.decay[key + n * 8 + lane % 4 * 2]);
    state[n][0] *= decay.x;
    state[n][1] *= decay.y;
    state[n][2] *= decay.x;
    state[n][3] *= decay.y;
  }
  if constexpr (kKind == ChunkKind::kColumns) {
    const float low = stage.column_decay[value + lane / 4];
    const float high = stage.column_decay[value + lane / 4 + 8];
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      state[n][0] *= low;
      state[n][1] *= low;
      state[n][2] *= high;
      state[n][3] *= high;
    }
  }
}

// Adds the chunk's keys times its values.
template <ChunkKind kKind>
__device__ void AddChunk(const StatesStage<kKind>& stage, int key, int value, int lane,
                         StateTile& state) {
#pragma unroll
  for (int row = 0; row < kChunkTiles; ++row) {
    const uint4 a = ValuesOf(stage.value, row, value, lane);
    const uint4 b0 = KeysOf(stage.key, row, key, lane);
    const uint4 b1 = KeysOf(stage.key, row, key + kTile, lane);
    Mma(state[0], a, b0.x, b0.y);
    Mma(state[1], a, b0.z, b0.w);
    Mma(state[2], a, b1.x, b1.y);
    Mma(state[3], a, b1.z, b1.w);
  }
}

// Grid: (tiles of K x tiles of V, kv heads, segments). A block owns 64 channels by 64 columns of
// one state, float32 in registers (2 x 4 warps), and walks the segment's chunks, kStages - 1 of
// them on their way. Bound by the latency of one chunk after another, and by the states' stores.
template <ChunkKind kKind>
__global__ __launch_bounds__(kThreads, 3) void StatesKernel(const __grid_constant__ ChunkParams p) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  auto* const stages = reinterpret_cast<StatesStage<kKind>*>(dynamic);
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const Segment segment = p.args.segments[blockIdx.z];
  const int chunk_count = ChunkCount(segment.position, segment.length);
  const int key_slices = (s.key_dim + kSlice - 1) / kSlice;
  const int key0 = blockIdx.x % key_slices * kSlice;
  const int value0 = blockIdx.x / key_slices * kSlice;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int warp_key = warp / kSliceTiles * 32;
  const int warp_value = warp % kSliceTiles * kTile;
  const int key_tiles = s.key_dim / kTile;
  const int value_tiles = s.value_dim / kTile;

  for (int i = 0; i < kStages - 1; ++i) {
    LoadStage(p, segment, i, chunk_count, key0, value0, stages[i]);
  }
  [[maybe_unused]] RowWeights weights;
  if constexpr (kKind == ChunkKind::kRows) weights = LoadWeights(p, segment, 0, chunk_count);
  float* const slot =
      op.states + segment.slot * op.slot_stride + int64_t{blockIdx.y} * s.key_dim * s.value_dim;
  StateTile state;
  ForEachState(state, key0 + warp_key, value0 + warp_value, lane,
               [&](float& number, int channel, int column) {
                 const bool valid = channel < s.key_dim && column < s.value_dim;
                 number = valid ? slot[int64_t{channel} * s.value_dim + column] : 0.0F;
               });

  for (int c = 0; c < chunk_count; ++c) {
    StatesStage<kKind>& stage = stages[c % kStages];
    CopyAsyncWait<kStages - 2>();
    if constexpr (kKind == ChunkKind::kRows) {
      WeighOwnRows(weights, stage.value);
      weights = LoadWeights(p, segment, c + 1, chunk_count);
    }
    __syncthreads();  // Chunk c is there for all, and all are done with chunk c - 1.
    LoadStage(p, segment, c + kStages - 1, chunk_count, key0, value0,
              stages[(c + kStages - 1) % kStages]);
    const int64_t kv_index = int64_t{segment.first_chunk + c} * s.kv_heads + blockIdx.y;
    WriteState(state, key0 + warp_key, value0 + warp_value, lane, key_tiles, value_tiles,
               static_cast<uint4*>(p.buffers.state) + kv_index * key_tiles * value_tiles * kWarp);
    DecayState(stage, warp_key, warp_value, lane, state);
    AddChunk(stage, warp_key, warp_value, lane, state);
  }
  CopyAsyncWait<0>();
  ForEachState(state, key0 + warp_key, value0 + warp_value, lane,
               [&](float& number, int channel, int column) {
                 if (channel >= s.key_dim || column >= s.value_dim) return;
                 slot[int64_t{channel} * s.value_dim + column] = number;
               });
}

template <ChunkKind kKind>
void LaunchStates(const ChunkParams& params, cudaStream_t stream) {
  constexpr int kBytes = kStages * sizeof(StatesStage<kKind>);
  static_assert(kBytes <= kMostShared, "the states fit on any GPU");
  const GatedShape& s = params.args.shape;
  const int slices = (s.key_dim + kSlice - 1) / kSlice * ((s.value_dim + kSlice - 1) / kSlice);
  const dim3 grid(slices, s.kv_heads, params.args.segment_count);
  AllowMostShared(StatesKernel<kKind>);
  StatesKernel<kKind><<<grid, kThreads, kBytes, stream>>>(params);
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void StatesBFloat16(const ChunkParams& params, cudaStream_t stream) {
  switch (ChunkKindOf(params.args.shape)) {
    case ChunkKind::kChannels:
      LaunchStates<ChunkKind::kChannels>(params, stream);
      break;
    case ChunkKind::kColumns:
      LaunchStates<ChunkKind::kColumns>(params, stream);
      break;
    case ChunkKind::kRows:
      LaunchStates<ChunkKind::kRows>(params, stream);
      break;
  }
}

}  // namespace sluice
