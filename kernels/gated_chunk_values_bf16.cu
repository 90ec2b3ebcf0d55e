// Gated values in bfloat16. Their decays are anchored at row tiles as those of keys are: of the
// states, values decayed to the chunk's end; of the output, sums decayed from row tile to row tile,
// and the tiles on A's diagonal exact in float32.
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

// A warp's row tile of one slice of columns: a lane holds two columns of 16 rows.
struct ValueTile {
  float2 gate[kTile];     // exp(log_decay)
  uint32_t value[kTile];  // pairs of bfloat16
};

// Rows after the chunk's last one and columns after V's last one come as zeros with no decay.
// Returns the sum of the log gates.
__device__ float2 LoadValueTile(const ChunkParams& p, const ChunkSpan& span, int kv_head,
                                int column, ValueTile& tile) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int first = threadIdx.x / kWarp * kTile;
  const int rows = column < s.value_dim ? span.length - first : 0;
  const int64_t row = span.row + first;
  const int64_t gate_stride = int64_t{s.kv_heads} * s.value_dim;
  const int64_t at = int64_t{kv_head} * s.value_dim + column;
  const float* const gate = op.value_log_decay + row * gate_stride + at;
  const Bf16* const value = static_cast<const Bf16*>(op.v) + row * op.v_stride + at;
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    tile.gate[i] = i < rows ? LoadPair(gate + i * gate_stride) : Pair(0.0F);
    tile.value[i] = i < rows ? *reinterpret_cast<const uint32_t*>(value + i * op.v_stride) : 0;
  }
  float2 total = Pair(0.0F);
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    total = Added(total, tile.gate[i]);
    tile.gate[i] = Exp(tile.gate[i]);
  }
  return total;
}

// Grid: (chunks, kv heads, slices of V). Warp w owns rows 16 w .. 16 w + 15. Bound by memory:
// values and gates in, values out.
__global__ __launch_bounds__(kChunkThreads) void ValuesKernel(
    const __grid_constant__ ChunkParams p) {
  EnterStream();
  __shared__ float totals[kChunkTiles][kSlice];
  __shared__ __align__(16) Bf16 stage[kChunkTiles][kTile][kPitch];  // on the way to fragments
  const GatedShape& s = p.args.shape;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int column0 = blockIdx.z * kSlice;
  const int column = column0 + 2 * lane;
  const int value_tiles = s.value_dim / kTile;
  const int tiles = min(kSliceTiles, value_tiles - column0 / kTile);
  const int64_t kv_index = int64_t{blockIdx.x} * s.kv_heads + blockIdx.y;

  ValueTile tile;
  const float2 total = LoadValueTile(p, p.args.chunks[blockIdx.x], blockIdx.y, column, tile);
  StorePair(&totals[warp][2 * lane], total);
  __syncthreads();
  const TileDecays decays = TileDecaysOf(totals, warp, lane);
  if (warp == 0 && column < s.value_dim) {
    StorePair(p.buffers.value_decay + kv_index * s.value_dim + column, decays.chunk);
  }
  float2 decay = Pair(1.0F);
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    const float2 value = Times(UnpackWord(tile.value[i]), decay);
    StoreWord(&stage[warp][i][2 * lane], Times(value, decays.after[kChunkTiles]));
    decay = Times(decay, tile.gate[i]);
  }
  __syncwarp();
  uint4* const fragments =
      static_cast<uint4*>(p.buffers.value) +
      ((kv_index * kChunkTiles + warp) * value_tiles + column0 / kTile) * kWarp;
  for (int t = 0; t < tiles; ++t) {
    fragments[t * kWarp + lane] = LoadAFromColumns(&stage[warp][0][t * kTile], kPitch, lane);
  }
}

constexpr int kSumPitch = kSlice + 8;  // rows 288 bytes apart: no bank conflicts

struct OutputShared {
  float totals[kChunkTiles][kSlice];        // sums of row tiles' log gates
  float before[kChunkTiles][kSlice];        // decays from the chunk's start to the row tiles'
  Bf16 cross[kCrossTiles * kTile][kPitch];  // v_j decayed to the start of a later tile, by pair
  float sum[kChunkTiles][kTile][kSumPitch];
  float4 scores[kChunkTiles][kTile][kTile / 4];  // the tiles on A's diagonal
};

// A warp's 16 rows by 64 columns of sums.
using OutputTile = float[2 * kSliceTiles][4];

// Values of the warp's row tile, decayed to the start of each later tile.
__device__ void WriteCross(OutputShared& shared, const ValueTile& tile, const TileDecays& decays,
                           int warp, int lane) {
  float2 decay = Pair(1.0F);
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    const float2 value = Times(UnpackWord(tile.value[i]), decay);
    decay = Times(decay, tile.gate[i]);
#pragma unroll
    for (int row = 1; row < kChunkTiles; ++row) {
      if (row <= warp) continue;
      StoreWord(&shared.cross[CrossTile(row, warp) * kTile + i][2 * lane],
                Times(value, decays.after[row]));
    }
  }
}

// A tile of A from its fragment.
__device__ void WriteScores(const uint4& fragment, int lane, float4 (*scores)[kTile / 4]) {
  float* const at = reinterpret_cast<float*>(scores) + lane / 4 * kTile + lane % 4 * 2;
  StorePair(at, UnpackWord(fragment.x));
  StorePair(at + 8 * kTile, UnpackWord(fragment.y));
  StorePair(at + 8, UnpackWord(fragment.z));
  StorePair(at + 8 * kTile + 8, UnpackWord(fragment.w));
}

// What the row tile's queries read of the state before the chunk. `state` stands at the block's
// first V tile, of which there are `tiles`.
__device__ void ReadState(const uint4* queries, const uint4* state, int key_tiles, int value_tiles,
                          int tiles, int lane, OutputTile& sum) {
#pragma unroll 2
  for (int t = 0; t < key_tiles; ++t) {
    const uint4 a = queries[t * kWarp + lane];
    uint4 b[kSliceTiles];
#pragma unroll
    for (int n = 0; n < kSliceTiles; ++n) {
      const int64_t at = (int64_t{t} * value_tiles + n) * kWarp + lane;
      b[n] = n < tiles ? state[at] : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int n = 0; n < kSliceTiles; ++n) {
      Mma(sum[2 * n], a, b[n].x, b[n].y);
      Mma(sum[2 * n + 1], a, b[n].z, b[n].w);
    }
  }
}

// Decays the sums from the chunk's start to the tile's, and adds A times the values before it.
__device__ void AddCross(const OutputShared& shared, const uint4* attention, int warp, int lane,
                         OutputTile& sum) {
#pragma unroll
  for (int n = 0; n < 2 * kSliceTiles; ++n) {
    const float2 decay = LoadPair(&shared.before[warp][n * 8 + lane % 4 * 2]);
    sum[n][0] *= decay.x;
    sum[n][1] *= decay.y;
    sum[n][2] *= decay.x;
    sum[n][3] *= decay.y;
  }
  for (int col = 0; col < warp; ++col) {
    const uint4 a = attention[LowerTile(warp, col) * kWarp + lane];
    const Bf16* const values = shared.cross[CrossTile(warp, col) * kTile];
#pragma unroll
    for (int n = 0; n < kSliceTiles; ++n) {
      const uint4 b = LoadBFromColumns(values + n * kTile, kPitch, lane);
      Mma(sum[2 * n], a, b.x, b.y);
      Mma(sum[2 * n + 1], a, b.z, b.w);
    }
  }
}

// Puts the sums where a lane finds all rows of its two columns.
__device__ void WriteSum(const OutputTile& sum, int lane, float (*rows)[kSumPitch]) {
#pragma unroll
  for (int n = 0; n < 2 * kSliceTiles; ++n) {
    float* const at = &rows[lane / 4][n * 8 + lane % 4 * 2];
    StorePair(at, make_float2(sum[n][0], sum[n][1]));
    StorePair(at + 8 * kSumPitch, make_float2(sum[n][2], sum[n][3]));
  }
}

// The product of row `row` of the tile on A's diagonal with the values up to it.
__device__ float2 MultiplyScores(const float4 (&scores)[kTile / 4], int row,
                                 const float2 (&values)[kTile]) {
  float2 sum = Pair(0.0F);
#pragma unroll
  for (int quad = 0; quad < kTile / 4; ++quad) {
    if (quad * 4 > row) continue;
    const float4 score = scores[quad];
    const float of[4] = {score.x, score.y, score.z, score.w};
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int j = quad * 4 + n;
      if (j > row) continue;
      sum.x = fmaf(of[n], values[j].x, sum.x);
      sum.y = fmaf(of[n], values[j].y, sum.y);
    }
  }
  return sum;
}

// Walks down the tile's rows, by each of which the sums and the values before it decay, and stores
// the output. `out` stands at the tile's first row and the lane's columns.
template <ReadKind kRead>
__device__ void WalkRows(const OutputShared& shared, const ValueTile& tile, int rows, int warp,
                         int lane, Bf16* out, int64_t out_stride) {
  constexpr bool kExclusive = kRead == ReadKind::kExclusive;
  float2 values[kTile];
  float2 decay = Pair(1.0F);
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    values[i] = UnpackWord(tile.value[i]);
    const float2 before = decay;
    decay = Times(decay, tile.gate[i]);
#pragma unroll
    for (int j = 0; j < i; ++j) {
      if (!kExclusive) values[j] = Times(values[j], tile.gate[i]);
    }
    const float2 sum = LoadPair(&shared.sum[warp][i][2 * lane]);
    const float2 own = MultiplyScores(shared.scores[warp][i], i, values);
    const float2 result = Added(Times(sum, kExclusive ? before : decay), own);
    if (i < rows) StorePair(out + i * out_stride, result);
#pragma unroll
    for (int j = 0; j < i; ++j) {
      if (kExclusive) values[j] = Times(values[j], tile.gate[i]);
    }
  }
}

// Grid: chunks x heads x slices of V. A block owns 64 rows by 64 columns of the output, a warp one
// row tile. Queries and state come as the words that a lane multiplies. Bound by memory: states,
// values and gates in, output out.
template <ReadKind kRead>
__global__ __launch_bounds__(kChunkThreads) void ValueOutputKernel(
    const __grid_constant__ ChunkParams p) {
  EnterStream();
  __shared__ __align__(16) OutputShared shared;
  const GatedShape& s = p.args.shape;
  const auto [chunk, head, column0] = OutputBlockOf(p, kSlice);
  const int kv_head = head / (s.heads / s.kv_heads);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int column = column0 + 2 * lane;
  const int key_tiles = s.key_dim / kTile;
  const int value_tiles = s.value_dim / kTile;
  const ChunkSpan span = p.args.chunks[chunk];
  const int64_t head_index = int64_t{chunk} * s.heads + head;
  const int64_t kv_index = int64_t{chunk} * s.kv_heads + kv_head;
  const uint4* const queries = static_cast<const uint4*>(p.buffers.query) +
                               (head_index * kChunkTiles + warp) * key_tiles * kWarp;
  const uint4* const state = static_cast<const uint4*>(p.buffers.state) +
                             (kv_index * key_tiles * value_tiles + column0 / kTile) * kWarp;
  const uint4* const attention =
      static_cast<const uint4*>(p.buffers.attention) + head_index * kLowerTiles * kWarp;

  ValueTile tile;
  const float2 total = LoadValueTile(p, span, kv_head, column, tile);
  StorePair(&shared.totals[warp][2 * lane], total);
  __syncthreads();
  const TileDecays decays = TileDecaysOf(shared.totals, warp, lane);
  StorePair(&shared.before[warp][2 * lane], decays.before);
  WriteCross(shared, tile, decays, warp, lane);
  WriteScores(attention[LowerTile(warp, warp) * kWarp + lane], lane, shared.scores[warp]);

  OutputTile sum = {};
  ReadState(queries, state, key_tiles, value_tiles, min(kSliceTiles, value_tiles - column0 / kTile),
            lane, sum);
  __syncthreads();  // Values and decays of all row tiles are there.
  AddCross(shared, attention, warp, lane, sum);
  WriteSum(sum, lane, shared.sum[warp]);
  __syncwarp();
  const int rows = column < s.value_dim ? span.length - warp * kTile : 0;
  const int64_t out_stride = int64_t{s.heads} * s.value_dim;
  Bf16* const out = static_cast<Bf16*>(p.args.operands.out) +
                    (int64_t{span.row} + warp * kTile) * out_stride + int64_t{head} * s.value_dim +
                    column;
  WalkRows<kRead>(shared, tile, rows, warp, lane, out, out_stride);
}

}  // namespace

void ValuesBFloat16(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int slices = (s.value_dim + kSlice - 1) / kSlice;
  LaunchKernel({dim3(params.args.chunk_count, s.kv_heads, slices), kChunkThreads}, stream,
               ValuesKernel, params);
}

void ValueOutputBFloat16(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const dim3 blocks(OutputBlocks(params, kSlice));
  if (s.read == ReadKind::kExclusive) {
    LaunchKernel({blocks, kChunkThreads}, stream, ValueOutputKernel<ReadKind::kExclusive>, params);
  } else {
    LaunchKernel({blocks, kChunkThreads}, stream, ValueOutputKernel<ReadKind::kInclusive>, params);
  }
}

}  // namespace sluice
