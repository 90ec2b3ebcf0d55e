// The chunkwise form in bfloat16, on tensor cores. The state is float32 between chunks; it is
// rounded to bfloat16 only as an operand of a chunk's output, the same wherever it came from.
#include <algorithm>

#include "kernels/cuda_check.h"
#include "kernels/gated_chunk.cuh"
#include "kernels/mma.cuh"
#include "kernels/pack.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

using Bf16 = __nv_bfloat16;

constexpr int kThreads = 128;
constexpr int kSlice = 64;  // channels of K, or columns of V, of a shared tile
constexpr int kSliceTiles = kSlice / kTile;
constexpr int kPitch = kSlice + 8;  // rows 144 bytes apart: ldmatrix without bank conflicts
constexpr int kCrossTiles = kLowerTiles - kChunkTiles;  // tiles of A below its diagonal ones
constexpr float2 kZeroPair = {0.0F, 0.0F};
constexpr float2 kOnePair = {1.0F, 1.0F};

__device__ float2 Times(float2 a, float2 b) { return make_float2(a.x * b.x, a.y * b.y); }
__device__ float2 Exp(float2 a) { return make_float2(expf(a.x), expf(a.y)); }
__device__ void StoreWord(Bf16* at, float2 x) {
  *reinterpret_cast<uint32_t*>(at) = PackWord(x.x, x.y);
}

// ---- prepare ----

struct PrepareShared {
  Bf16 query[kChunk][kPitch];              // q_i decayed from the start of its row tile to its read
  Bf16 key[kCrossTiles * kTile][kPitch];   // k_j decayed to the start of a later row tile, by pair
  Bf16 stage[kChunkTiles][kTile][kPitch];  // of one warp, on the way to fragments
  float total[kChunkTiles][kSlice];        // sum of a row tile's log gates
};

// A warp's row tile of one slice of channels: a lane holds two channels of 16 rows.
struct RowTile {
  float2 gate[kTile];  // exp(log_decay)
  uint32_t q[kTile];   // pairs of bfloat16
  uint32_t k[kTile];
  float2 before;                  // decay from the chunk's start to the tile's
  float2 after[kChunkTiles + 1];  // decay from the tile's end to the start of tile [i]
};

// Position of tile (row, col) of the triangle without its diagonal.
__device__ constexpr int CrossTile(int row, int col) { return row * (row - 1) / 2 + col; }

// One step of SumToLanes: halves the numbers that a lane holds of a row.
template <int kHalf>
__device__ void SumHalf(float (&s)[kTile], int lane) {
  const bool upper = (lane & (2 * kHalf)) != 0;
#pragma unroll
  for (int j = 0; j < kHalf; ++j) {
    const float send = upper ? s[j] : s[j + kHalf];
    const float keep = upper ? s[j + kHalf] : s[j];
    s[j] = keep + __shfl_xor_sync(kAllLanes, send, 2 * kHalf);
  }
}

// Sums over the lanes of 16 numbers of two rows. Lane l gets number l / 2 of row l % 2.
__device__ float SumToLanes(float (&row0)[kTile], float (&row1)[kTile], int lane) {
  SumHalf<8>(row0, lane);
  SumHalf<8>(row1, lane);
  SumHalf<4>(row0, lane);
  SumHalf<4>(row1, lane);
  SumHalf<2>(row0, lane);
  SumHalf<2>(row1, lane);
  SumHalf<1>(row0, lane);
  SumHalf<1>(row1, lane);
  const bool upper = lane % 2 != 0;
  const float send = upper ? row0[0] : row1[0];
  const float keep = upper ? row1[0] : row0[0];
  return keep + __shfl_xor_sync(kAllLanes, send, 1);
}

// k times the input's scale, rounded again.
__device__ void ScaleKeys(const GatedShape& s, const GatedOperands& op, int64_t row, int kv_head,
                          int rows, uint32_t (&k)[kTile]) {
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    const float scale = i < rows ? op.input_scale[(row + i) * s.kv_heads + kv_head] : 0.0F;
    const float2 key = UnpackWord(k[i]);
    k[i] = PackWord(key.x * scale, key.y * scale);
  }
}

// Rows after the chunk's last one and channels after K's last one come as zeros with no decay.
__device__ void LoadRowTile(const ChunkParams& p, const ChunkSpan& span, int head, int channel,
                            RowTile& tile, float2* total) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int kv_head = head / (s.heads / s.kv_heads);
  const int first = threadIdx.x / kWarp * kTile;
  const int rows = channel < s.key_dim ? span.length - first : 0;
  const int64_t row = span.row + first;
  const Bf16* const q = static_cast<const Bf16*>(op.q) + row * op.q_stride +
                        int64_t{head / s.shared_keys} * s.key_dim + channel;
  const Bf16* const k = static_cast<const Bf16*>(op.k) + row * op.k_stride +
                        int64_t{kv_head / s.shared_keys} * s.key_dim + channel;
  const GateView gate = ViewGate(s, op, row, kv_head);
  if (gate.channel_stride != 0) {
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      tile.gate[i] = i < rows ? LoadPair(gate.first + i * gate.row_stride + channel) : kZeroPair;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      const bool valid = i < rows && gate.first != nullptr;
      const float g = valid ? gate.first[i * gate.row_stride] : 0.0F;
      tile.gate[i] = make_float2(g, g);
    }
  }
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    tile.q[i] = i < rows ? *reinterpret_cast<const uint32_t*>(q + i * op.q_stride) : 0;
    tile.k[i] = i < rows ? *reinterpret_cast<const uint32_t*>(k + i * op.k_stride) : 0;
  }
  if (op.input_scale != nullptr) ScaleKeys(s, op, row, kv_head, rows, tile.k);
  *total = kZeroPair;
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    total->x += tile.gate[i].x;
    total->y += tile.gate[i].y;
    tile.gate[i] = Exp(tile.gate[i]);
  }
}

// Decays between this warp's row tile and the others, from the tiles' totals.
__device__ void LoadTileDecays(const PrepareShared& shared, int warp, int lane, RowTile& tile,
                               float2* chunk_decay) {
  float2 earlier = kZeroPair;
  float2 later = kZeroPair;
  float2 all = kZeroPair;
#pragma unroll
  for (int t = 0; t <= kChunkTiles; ++t) {
    tile.after[t] = Exp(later);  // Used for t > warp only.
    const float2 total = t < kChunkTiles ? LoadPair(&shared.total[t][2 * lane]) : kZeroPair;
    const float2 kept = t < warp ? total : kZeroPair;
    const float2 following = t > warp ? total : kZeroPair;
    earlier = make_float2(earlier.x + kept.x, earlier.y + kept.y);
    later = make_float2(later.x + following.x, later.y + following.y);
    all = make_float2(all.x + total.x, all.y + total.y);
  }
  tile.before = Exp(earlier);
  *chunk_decay = Exp(all);
}

// Writes a warp's 16 rows of decayed queries: to shared memory for A, and as fragments. Read
// exclusively, they are decayed by the rows before them alone.
template <ReadKind kRead>
__device__ void WriteQueries(PrepareShared& shared, const RowTile& tile, float scale, int warp,
                             int lane, int tiles, uint4* fragments) {
  const float2 factor = make_float2(tile.before.x * scale, tile.before.y * scale);
  float2 decay = kOnePair;
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    if (kRead == ReadKind::kInclusive) decay = Times(decay, tile.gate[i]);
    const float2 q = Times(UnpackWord(tile.q[i]), decay);
    if (kRead == ReadKind::kExclusive) decay = Times(decay, tile.gate[i]);
    StoreWord(&shared.query[warp * kTile + i][2 * lane], q);
    StoreWord(&shared.stage[warp][i][2 * lane], Times(q, factor));
  }
  __syncwarp();
  for (int t = 0; t < tiles; ++t) {
    fragments[t * kWarp + lane] = LoadAFromRows(&shared.stage[warp][0][t * kTile], kPitch, lane);
  }
  __syncwarp();
}

// The same for keys, from the last row to the first; `fragments` is null if another head's block
// writes them.
__device__ void WriteKeys(PrepareShared& shared, const RowTile& tile, int warp, int lane, int tiles,
                          uint4* fragments) {
  float2 decay = kOnePair;
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    const float2 k = Times(UnpackWord(tile.k[i]), decay);
    decay = Times(decay, tile.gate[i]);
    StoreWord(&shared.stage[warp][i][2 * lane], Times(k, tile.after[kChunkTiles]));
#pragma unroll
    for (int row = 1; row < kChunkTiles; ++row) {
      if (row <= warp) continue;
      StoreWord(&shared.key[CrossTile(row, warp) * kTile + i][2 * lane], Times(k, tile.after[row]));
    }
  }
  __syncwarp();
  if (fragments != nullptr) {
    for (int t = 0; t < tiles; ++t) {
      fragments[t * kWarp + lane] =
          LoadBFromColumns(&shared.stage[warp][0][t * kTile], kPitch, lane);
    }
  }
  __syncwarp();
}

// Products of query row `row` with the keys up to it, which it decays by that row's gate: before
// the products or, read exclusively, behind them. Its own key is then weighed by the bonus.
template <ReadKind kRead>
__device__ void MultiplyRow(const RowTile& tile, int row, float2 bonus, float2 (&key)[kTile],
                            float (&products)[kTile]) {
  constexpr bool kExclusive = kRead == ReadKind::kExclusive;
  const float2 q = UnpackWord(tile.q[row]);
  key[row] = UnpackWord(tile.k[row]);
#pragma unroll
  for (int j = 0; j < kTile; ++j) {
    if (!kExclusive && j < row) key[j] = Times(key[j], tile.gate[row]);
    float2 read = key[j];
    if (kExclusive && j == row) read = Times(read, bonus);
    products[j] = j <= row ? fmaf(q.x, read.x, q.y * read.y) : 0.0F;
    if (kExclusive && j < row) key[j] = Times(key[j], tile.gate[row]);
  }
}

// Adds a slice's part of the tile on A's diagonal: keys decay row by row as the walk goes down, so
// no exponent is ever formed. Number i of lane l is that of row 2 i + l % 2, column l / 2.
template <ReadKind kRead>
__device__ void AddDiagonal(const RowTile& tile, float2 bonus, int lane,
                            float (&diagonal)[kTile / 2]) {
  float2 key[kTile];
#pragma unroll
  for (int i = 0; i < kTile; i += 2) {
    float even[kTile];
    float odd[kTile];
    MultiplyRow<kRead>(tile, i, bonus, key, even);
    MultiplyRow<kRead>(tile, i + 1, bonus, key, odd);
    diagonal[i / 2] += SumToLanes(even, odd, lane);
  }
}

// The bonus of two channels of a state head; zeros if there is none.
__device__ float2 LoadBonus(const GatedShape& s, const GatedOperands& op, int kv_head,
                            int channel) {
  if (op.bonus == nullptr || channel >= s.key_dim) return kZeroPair;
  return LoadPair(op.bonus + int64_t{kv_head} * s.key_dim + channel);
}

// Adds a slice's part of a tile below the diagonal.
__device__ void AddCross(const PrepareShared& shared, int cross, int row, int lane,
                         float (&sum)[2][4]) {
#pragma unroll
  for (int t = 0; t < kSliceTiles; ++t) {
    const uint4 a = LoadAFromRows(&shared.query[row * kTile][t * kTile], kPitch, lane);
    const uint4 b = LoadBFromRows(&shared.key[cross * kTile][t * kTile], kPitch, lane);
    Mma(sum[0], a, b.x, b.y);
    Mma(sum[1], a, b.z, b.w);
  }
}

__device__ void StoreCross(Bf16 (*attention)[kPitch], int row, int col, int lane, float scale,
                           const float (&sum)[2][4]) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    Bf16* const at = &attention[row * kTile + lane / 4][col * kTile + n * 8 + lane % 4 * 2];
    StoreWord(at, make_float2(sum[n][0] * scale, sum[n][1] * scale));
    StoreWord(at + 8 * kPitch, make_float2(sum[n][2] * scale, sum[n][3] * scale));
  }
}

// Row tile of number `index` of a triangle whose row r holds r + 1 tiles.
__device__ int TriangleRow(int index) { return (index >= 1) + (index >= 3) + (index >= 6); }

// Grid: (chunks, heads). Warp w owns rows 16 w .. 16 w + 15 in slices of 64 channels, a lane two
// channels; the 48 loads of a slice are in flight together. The diagonal tiles of A are exact in
// float32; the six below them are products of two factors <= 1, decayed to the start of the query's
// row tile. Bound by memory (q, k, gates in; queries, keys out) and, close to it, by instructions.
template <ReadKind kRead>
__global__ __launch_bounds__(kThreads,
                             3) void PrepareKernel(const __grid_constant__ ChunkParams p) {
  __shared__ __align__(16) PrepareShared shared;
  const GatedShape& s = p.args.shape;
  const int chunk = blockIdx.x;
  const int head = blockIdx.y;
  const int group = s.heads / s.kv_heads;
  const int kv_head = head / group;
  const bool writes_keys = head % group == 0;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int key_tiles = s.key_dim / kTile;
  const ChunkSpan span = p.args.chunks[chunk];
  const int64_t kv_index = int64_t{chunk} * s.kv_heads + kv_head;
  const int64_t head_index = int64_t{chunk} * s.heads + head;
  uint4* const query_out =
      static_cast<uint4*>(p.buffers.query) + (head_index * kChunkTiles + warp) * key_tiles * kWarp;
  uint4* const key_out =
      static_cast<uint4*>(p.buffers.key) + (kv_index * kChunkTiles + warp) * key_tiles * kWarp;
  float* const decay_out = p.buffers.decay + kv_index * s.key_dim;

  // Warps 0 and 1 own two tiles below the diagonal, warps 2 and 3 one.
  const int cross1 = warp + kChunkTiles;
  float cross_sum[2][2][4] = {};
  float diagonal[kTile / 2] = {};

  for (int channel0 = 0; channel0 < s.key_dim; channel0 += kSlice) {
    const int channel = channel0 + 2 * lane;
    const int tiles = min(kSliceTiles, key_tiles - channel0 / kTile);
    RowTile tile;
    float2 total;
    LoadRowTile(p, span, head, channel, tile, &total);
    StorePair(&shared.total[warp][2 * lane], total);
    __syncthreads();  // Totals are there, and the last slice's products are done.

    float2 chunk_decay;
    LoadTileDecays(shared, warp, lane, tile, &chunk_decay);
    if (writes_keys && warp == 0 && channel < s.key_dim) {
      StorePair(decay_out + channel, chunk_decay);
    }
    const int fragment = channel0 / kTile * kWarp;
    WriteQueries<kRead>(shared, tile, s.scale, warp, lane, tiles, query_out + fragment);
    WriteKeys(shared, tile, warp, lane, tiles, writes_keys ? key_out + fragment : nullptr);
    float2 bonus = kZeroPair;
    if (kRead == ReadKind::kExclusive) bonus = LoadBonus(s, p.args.operands, kv_head, channel);
    AddDiagonal<kRead>(tile, bonus, lane, diagonal);
    __syncthreads();  // Queries and keys are there, and the totals were read.

    AddCross(shared, warp, TriangleRow(warp) + 1, lane, cross_sum[0]);
    if (cross1 < kCrossTiles) {
      AddCross(shared, cross1, TriangleRow(cross1) + 1, lane, cross_sum[1]);
    }
  }

  // A goes through shared memory, where the queries were, to become fragments.
  __syncthreads();
  Bf16(*const attention)[kPitch] = shared.query;
  const int row0 = TriangleRow(warp) + 1;
  StoreCross(attention, row0, warp - CrossTile(row0, 0), lane, s.scale, cross_sum[0]);
  if (cross1 < kCrossTiles) {
    const int row1 = TriangleRow(cross1) + 1;
    StoreCross(attention, row1, cross1 - CrossTile(row1, 0), lane, s.scale, cross_sum[1]);
  }
#pragma unroll
  for (int i = 0; i < kTile / 2; ++i) {
    attention[warp * kTile + 2 * i + lane % 2][warp * kTile + lane / 2] =
        __float2bfloat16_rn(diagonal[i] * s.scale);
  }
  __syncthreads();
  uint4* const attention_out =
      static_cast<uint4*>(p.buffers.attention) + head_index * kLowerTiles * kWarp;
  for (int t = warp; t < kLowerTiles; t += kChunkTiles) {
    const int row = TriangleRow(t);
    const int col = t - row * (row + 1) / 2;
    attention_out[t * kWarp + lane] =
        LoadAFromRows(&attention[row * kTile][col * kTile], kPitch, lane);
  }
}

// ---- states ----

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
    for (int i = threadIdx.x; i < kChunkTiles * kSliceTiles * kWarp; i += kThreads) {
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
    for (int i = threadIdx.x; i < kChunk * kSlice / kPack; i += kThreads) {
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
__global__ __launch_bounds__(kThreads) void StatesKernel(const __grid_constant__ ChunkParams p) {
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

// ---- output ----

constexpr int kOutputV = 128;               // columns of a block, 32 of a warp
constexpr int kOutputPitch = kOutputV + 8;  // 272 bytes: no bank conflicts

// kRing: K tiles of the state on their way to a warp.
template <int kRing>
struct OutputShared {
  uint4 attention[kLowerTiles][kWarp];             // fragments
  uint4 state[kThreads / kWarp][kRing][2][kWarp];  // fragments, each lane's read by itself alone
  Bf16 value[kChunk][kOutputPitch];                // then the output, each warp its own columns
  uint4 query[1];                                  // fragments [row tile][K tile][lane], to the end
};

template <int kRing>
constexpr int OutputBytes(int key_dim) {
  return static_cast<int>(sizeof(OutputShared<kRing>) +
                          kChunkTiles * (key_dim / kTile) * kTileBytes);
}

// As long as it may be with all but the largest K; the shorter one leaves room for any.
constexpr int kLongRing = 4;
constexpr int kShortRing = 3;
// Shared memory that a block may have on every GPU of compute capability 8.0 and up: that of 8.6.
constexpr int kMostShared = 99 << 10;
static_assert(kStages * sizeof(StatesStage) <= kMostShared, "the states fit on any GPU");
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
  for (int i = threadIdx.x; i < query_words; i += kThreads) {
    CopyAsync(shared.query + i, queries + i, true);
  }
  const uint4* const attention =
      static_cast<const uint4*>(p.buffers.attention) + head_index * kLowerTiles * kWarp;
  for (int i = threadIdx.x; i < kLowerTiles * kWarp; i += kThreads) {
    CopyAsync(&shared.attention[0][0] + i, attention + i, true);
  }
  const Bf16* const values =
      static_cast<const Bf16*>(op.v) + span.row * op.v_stride + int64_t{kv_head} * s.value_dim;
  for (int i = threadIdx.x; i < kChunk * kOutputV / kPack; i += kThreads) {
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
__global__ __launch_bounds__(kThreads) void OutputKernel(const __grid_constant__ ChunkParams p) {
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

// The same limit for whatever K, so that devices in other threads need not agree on one.
template <typename Kernel>
void AllowMostShared(Kernel kernel) {
  SLUICE_CUDA_CHECK(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMostShared));
}

template <int kRing>
void LaunchOutput(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int blocks = params.args.chunk_count * ((s.value_dim + kOutputV - 1) / kOutputV);
  const int bytes = OutputBytes<kRing>(s.key_dim);
  AllowMostShared(OutputKernel<kRing>);
  OutputKernel<kRing><<<dim3(blocks, s.heads), kThreads, bytes, stream>>>(params);
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void GatedChunkBFloat16(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const dim3 heads(params.args.chunk_count, s.heads);
  if (s.read == ReadKind::kExclusive) {
    PrepareKernel<ReadKind::kExclusive><<<heads, kThreads, 0, stream>>>(params);
  } else {
    PrepareKernel<ReadKind::kInclusive><<<heads, kThreads, 0, stream>>>(params);
  }
  SLUICE_CUDA_CHECK(cudaGetLastError());

  const int slices = (s.key_dim + kSlice - 1) / kSlice * ((s.value_dim + kSlice - 1) / kSlice);
  AllowMostShared(StatesKernel);
  StatesKernel<<<dim3(slices, s.kv_heads, params.args.segment_count), kThreads,
                 kStages * sizeof(StatesStage), stream>>>(params);
  SLUICE_CUDA_CHECK(cudaGetLastError());

  if (OutputBytes<kLongRing>(s.key_dim) <= kMostShared) {
    LaunchOutput<kLongRing>(params, stream);
  } else {
    LaunchOutput<kShortRing>(params, stream);
  }
}

}  // namespace sluice
