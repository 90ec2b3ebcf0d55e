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

// What a chunk gives to a block.
template <ChunkKind kKind>
struct alignas(16) StatesStage {
  std::conditional_t<kKind == ChunkKind::kRows, RowSlice, FragmentSlice> key;
  std::conditional_t<kKind == ChunkKind::kColumns, FragmentSlice, RowSlice> value;
  float decay[kSlice];  // by channel of K
  float column_decay[kKind == ChunkKind::kColumns ? kSlice : 4];
};

// What a thread copies of a slice: 16 bytes each of two of its rows, or of two row tiles.
constexpr int kRowParts = kSlice / kPack;
constexpr int kOwnRows = kChunk * kRowParts / kThreads;
constexpr int kRowStep = kThreads / kRowParts;
constexpr int kTileStep = kThreads / (kSliceTiles * kWarp);
__device__ int OwnRow() { return threadIdx.x / kRowParts; }
__device__ int OwnColumn() { return threadIdx.x % kRowParts * kPack; }
__device__ int OwnTileRow() { return threadIdx.x / (kSliceTiles * kWarp); }
__device__ int OwnTile() { return threadIdx.x / kWarp % kSliceTiles; }

// Where a thread finds its own part of a matrix's next 64 rows, of columns [first, first + kSlice).
// All that can be is computed once, not chunk by chunk: the walk is bound by instructions.
struct RowCursor {
  const Bf16* base;  // some address of the matrix
  const Bf16* own;
  int stride;
  bool has_columns;

  __device__ RowCursor(const void* matrix, int64_t row, int64_t stride, int64_t column, int columns,
                       int first)
      : base(static_cast<const Bf16*>(matrix)),
        own(base + (row + OwnRow()) * stride + column + first + OwnColumn()),
        stride(static_cast<int>(stride)),
        has_columns(first + OwnColumn() < columns) {}
  __device__ void Advance(int rows) { own += int64_t{rows} * stride; }
};
// The same of fragments, which are there for all 64 rows.
struct FragmentCursor {
  const uint4* base;
  const uint4* own;
  int64_t chunk_step;
  int tile_step;
  bool has_columns;

  __device__ FragmentCursor(const void* fragments, int64_t index, int64_t heads, int columns,
                            int first)
      : base(static_cast<const uint4*>(fragments)),
        chunk_step(heads * kChunkTiles * (columns / kTile) * kWarp),
        tile_step(columns / kTile * kWarp),
        has_columns(first / kTile + OwnTile() < columns / kTile) {
    own = base + index * kChunkTiles * tile_step + OwnTileRow() * tile_step +
          (first / kTile + OwnTile()) * kWarp + threadIdx.x % kWarp;
  }
  __device__ void Advance(int /*rows*/) { own += chunk_step; }
};
// The same of rows of floats, four of which the first threads copy each.
struct DecayCursor {
  const float* base;
  const float* own;
  int64_t chunk_step;
  bool has_columns;

  __device__ DecayCursor(const float* decays, int64_t index, int64_t heads, int columns, int first)
      : base(decays),
        own(decays + index * columns + first + OwnDecay()),
        chunk_step(heads * columns),
        has_columns(first + OwnDecay() < columns) {}
  __device__ static int OwnDecay() { return threadIdx.x % (kSlice / 4) * 4; }
  __device__ void Advance() { own += chunk_step; }
};

// Start copying what is there of `rows` rows; what is not is zero.
__device__ void LoadSlice(const RowCursor& from, int rows, RowSlice& slice) {
#pragma unroll
  for (int n = 0; n < kOwnRows; ++n) {
    const int row = OwnRow() + n * kRowStep;
    const bool valid = from.has_columns && row < rows;
    const Bf16* const at = from.own + int64_t{n * kRowStep} * from.stride;
    CopyAsync(&slice.rows[row][OwnColumn()], valid ? at : from.base, valid);
  }
}
__device__ void LoadSlice(const FragmentCursor& from, int /*rows*/, FragmentSlice& slice) {
#pragma unroll
  for (int n = 0; n < kChunkTiles / kTileStep; ++n) {
    const int row = OwnTileRow() + n * kTileStep;
    const uint4* const at = from.own + n * kTileStep * from.tile_step;
    CopyAsync(&slice.tiles[row][OwnTile()][threadIdx.x % kWarp], from.has_columns ? at : from.base,
              from.has_columns);
  }
}
__device__ void LoadDecays(const DecayCursor& from, float (&slice)[kSlice]) {
  if (threadIdx.x >= kSlice / 4) return;
  CopyAsync(&slice[DecayCursor::OwnDecay()], from.has_columns ? from.own : from.base,
            from.has_columns);
}

// Copies a segment's chunks, one after another.
template <ChunkKind kKind>
struct Cursor {
  std::conditional_t<kKind == ChunkKind::kRows, RowCursor, FragmentCursor> key;
  std::conditional_t<kKind == ChunkKind::kColumns, FragmentCursor, RowCursor> value;
  DecayCursor decay;
  DecayCursor column_decay;
  int rows;    // of the next chunk
  int behind;  // rows behind it

  // Starts copying the next chunk, if there is one.
  __device__ void Load(StatesStage<kKind>& stage) {
    if (rows > 0) {
      LoadSlice(key, rows, stage.key);
      LoadSlice(value, rows, stage.value);
      LoadDecays(decay, stage.decay);
      if constexpr (kKind == ChunkKind::kColumns) LoadDecays(column_decay, stage.column_decay);
      key.Advance(rows);
      value.Advance(rows);
      decay.Advance();
      column_decay.Advance();
      rows = min(kChunk, behind);
      behind -= rows;
    }
    CopyAsyncCommit();
  }
};

template <ChunkKind kKind>
__device__ auto KeyCursor(const ChunkParams& p, const Segment& segment, int64_t index, int key0) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  if constexpr (kKind == ChunkKind::kRows) {
    const int64_t column = int64_t{static_cast<int>(blockIdx.y) / s.shared_keys} * s.key_dim;
    return RowCursor(op.k, segment.row, op.k_stride, column, s.key_dim, key0);
  } else {
    return FragmentCursor(p.buffers.key, index, s.kv_heads, s.key_dim, key0);
  }
}

template <ChunkKind kKind>
__device__ auto ValueCursor(const ChunkParams& p, const Segment& segment, int64_t index,
                            int value0) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  if constexpr (kKind == ChunkKind::kColumns) {
    return FragmentCursor(p.buffers.value, index, s.kv_heads, s.value_dim, value0);
  } else {
    const int64_t column = int64_t{blockIdx.y} * s.value_dim;
    return RowCursor(op.v, segment.row, op.v_stride, column, s.value_dim, value0);
  }
}

// Chunks after the first begin on the grid of positions.
template <ChunkKind kKind>
__device__ Cursor<kKind> CursorOf(const ChunkParams& p, const Segment& segment, int key0,
                                  int value0) {
  const GatedShape& s = p.args.shape;
  const ChunkBuffers& b = p.buffers;
  const int64_t index = int64_t{segment.first_chunk} * s.kv_heads + blockIdx.y;
  const int rows = min(kChunk - segment.position % kChunk, segment.length);
  return {KeyCursor<kKind>(p, segment, index, key0),
          ValueCursor<kKind>(p, segment, index, value0),
          DecayCursor(b.decay, index, s.kv_heads, s.key_dim, key0),
          DecayCursor(b.value_decay, index, s.kv_heads, s.value_dim, value0),
          rows,
          segment.length - rows};
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

__device__ RowWeights LoadWeights(const float* weights) {
  RowWeights own;
#pragma unroll
  for (int n = 0; n < kOwnRows; ++n) own.of[n] = weights[OwnRow() + n * kRowStep];
  return own;
}

// Multiplies what the thread itself has copied, which no other has seen yet.
__device__ void WeighOwnRows(const RowWeights& weights, RowSlice& slice) {
#pragma unroll
  for (int n = 0; n < kOwnRows; ++n) {
    Bf16* const at = &slice.rows[OwnRow() + n * kRowStep][OwnColumn()];
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

// Writes the state before a chunk, rounded, as fragments: of the warp's two K tiles as many as are
// there. `to` is the lane's own of the first one.
__device__ void WriteState(const StateTile& state, int key_tiles, int value_tiles, uint4* to) {
#pragma unroll
  for (int pair = 0; pair < 2; ++pair) {
    if (pair >= key_tiles) continue;
    const float(&low)[4] = state[2 * pair];
    const float(&high)[4] = state[2 * pair + 1];
    to[pair * value_tiles * kWarp] =
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
  EnterStream();
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
  const int key_tile = (key0 + warp_key) / kTile;
  const int value_tile = (value0 + warp_value) / kTile;
  const int written_tiles = value_tile < value_tiles ? key_tiles - key_tile : 0;
  const int64_t index = int64_t{segment.first_chunk} * s.kv_heads + blockIdx.y;
  const int64_t state_step = int64_t{s.kv_heads} * key_tiles * value_tiles * kWarp;
  uint4* before = static_cast<uint4*>(p.buffers.state) +
                  ((index * key_tiles + key_tile) * value_tiles + value_tile) * kWarp + lane;
  const float* next_weights = p.buffers.value_weight + index * kChunk;

  Cursor<kKind> cursor = CursorOf<kKind>(p, segment, key0, value0);
  for (int i = 0; i < kStages - 1; ++i) cursor.Load(stages[i]);
  [[maybe_unused]] RowWeights weights;
  if constexpr (kKind == ChunkKind::kRows) weights = LoadWeights(next_weights);
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
      next_weights += int64_t{s.kv_heads} * kChunk;
      if (c + 1 < chunk_count) weights = LoadWeights(next_weights);
    }
    __syncthreads();  // Chunk c is there for all, and all are done with chunk c - 1.
    cursor.Load(stages[(c + kStages - 1) % kStages]);
    WriteState(state, written_tiles, value_tiles, before);
    before += state_step;
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
  LaunchKernel({grid, kThreads, kBytes}, stream, StatesKernel<kKind>, params);
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
