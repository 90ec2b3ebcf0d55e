// The first kernel of the chunkwise form in bfloat16: decayed queries and keys, and A.
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"
#include "kernels/wgmma.cuh"

namespace sluice {
namespace {

// Sums of a row tile's log gates that are weak enough for its keys to be grown back to its start.
constexpr float kMostGrowth = 60.0F;

struct PrepareShared {
  Bf16 query[kChunk][kPitch];              // q_i decayed from the start of its row tile to its read
  Bf16 key[kLowerTiles * kTile][kPitch];   // k_j as of the start of a row tile, its own or later
  Bf16 stage[kChunkTiles][kTile][kPitch];  // of one warp, on the way to fragments
  float total[kChunkTiles][kSlice];        // sum of a row tile's log gates
  float exact[kChunkTiles][kTile][kTile];  // of the tiles on A's diagonal, what is summed apart
};

// A warp's row tile of one slice of channels: a lane holds two channels of 16 rows.
struct RowTile {
  float2 gate[kTile];  // exp(log_decay)
  uint32_t q[kTile];   // pairs of bfloat16
  uint32_t k[kTile];
};

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

// Sums over the lanes of 16 numbers. Lanes 2 i and 2 i + 1 get number i.
__device__ float SumToPairs(float (&numbers)[kTile], int lane) {
  SumHalf<8>(numbers, lane);
  SumHalf<4>(numbers, lane);
  SumHalf<2>(numbers, lane);
  SumHalf<1>(numbers, lane);
  return numbers[0] + __shfl_xor_sync(kAllLanes, numbers[0], 1);
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

// Calls load(i) for the rows that there are, one after another without a question if all are.
template <typename Load, typename Skip>
__device__ void ForEachRow(int rows, Load load, Skip skip) {
  if (rows >= kTile) {
#pragma unroll
    for (int i = 0; i < kTile; ++i) load(i);
  } else {
#pragma unroll
    for (int i = 0; i < kTile; ++i) i < rows ? load(i) : skip(i);
  }
}

// Rows after the chunk's last one and channels after K's last one come as zeros with no decay.
__device__ void LoadRowTile(const ChunkParams& p, const ChunkSpan& span, int head, int warp,
                            int channel, RowTile& tile, float2* total) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int kv_head = head / (s.heads / s.kv_heads);
  const int first = warp * kTile;
  const int rows = channel < s.key_dim ? span.length - first : 0;
  const int64_t row = span.row + first;
  const Bf16* const q = static_cast<const Bf16*>(op.q) + row * op.q_stride +
                        int64_t{head / s.shared_keys} * s.key_dim + channel;
  const Bf16* const k = static_cast<const Bf16*>(op.k) + row * op.k_stride +
                        int64_t{kv_head / s.shared_keys} * s.key_dim + channel;
  const GateView gate = ViewGate(s, op, row, kv_head);
  const auto gate_stride = static_cast<int>(gate.row_stride);
  const auto q_stride = static_cast<int>(op.q_stride);
  const auto k_stride = static_cast<int>(op.k_stride);
  const auto no_gate = [&](int i) { tile.gate[i] = Pair(0.0F); };
  if (gate.channel_stride != 0) {
    const float* const first = gate.first + channel;
    ForEachRow(
        rows, [&](int i) { tile.gate[i] = LoadPair(first + i * gate_stride); }, no_gate);
  } else {
    const bool is_gated = gate.first != nullptr;
    ForEachRow(
        is_gated ? rows : 0, [&](int i) { tile.gate[i] = Pair(gate.first[i * gate_stride]); },
        no_gate);
  }
  ForEachRow(
      rows,
      [&](int i) {
        tile.q[i] = *reinterpret_cast<const uint32_t*>(q + i * q_stride);
        tile.k[i] = *reinterpret_cast<const uint32_t*>(k + i * k_stride);
      },
      [&](int i) { tile.q[i] = tile.k[i] = 0; });
  if (op.input_scale != nullptr) ScaleKeys(s, op, row, kv_head, rows, tile.k);
  *total = Pair(0.0F);
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    *total = Added(*total, tile.gate[i]);
    // Off by 2 + 1.2 |x| units in the last place at most; what it goes into is rounded to 8 bits.
    tile.gate[i] = make_float2(__expf(tile.gate[i].x), __expf(tile.gate[i].y));
  }
}

// Where a warp's part of a matrix's rows begins.
template <OperandForm kForm>
__device__ uint4* RowsOut(void* matrices, int64_t index, int key_dim, int warp) {
  uint4* const words = static_cast<uint4*>(matrices);
  if constexpr (kForm == OperandForm::kImages) {
    return words + index * ImagesOf(key_dim) * kImageWords;
  } else {
    return words + (index * kChunkTiles + warp) * (key_dim / kTile) * kWarp;
  }
}

// Stores a warp's 16 staged rows of a slice, `tiles` of them wide, from the slice's first word on.
template <OperandForm kForm, typename Load>
__device__ void StoreRows(const Bf16 (*stage)[kPitch], int warp, int lane, int tiles, Load load,
                          uint4* to) {
  if constexpr (kForm == OperandForm::kImages) {
    constexpr int kPieces = kSlice / kPack;  // of a row
#pragma unroll
    for (int n = 0; n < kTile * kPieces / kWarp; ++n) {
      const int row = (n * kWarp + lane) / kPieces;
      const int piece = lane % kPieces;
      to[ImageOffset(warp * kTile + row, piece) / 16] =
          *reinterpret_cast<const uint4*>(&stage[row][piece * kPack]);
    }
  } else {
    for (int t = 0; t < tiles; ++t) to[t * kWarp + lane] = load(&stage[0][t * kTile], kPitch, lane);
  }
}

// Writes a warp's 16 rows of decayed queries: to shared memory for A, and out. Read exclusively,
// they are decayed by the rows before them alone.
template <ReadKind kRead, OperandForm kForm>
__device__ void WriteQueries(PrepareShared& shared, const RowTile& tile, float2 before, float scale,
                             int warp, int lane, int tiles, uint4* out) {
  const float2 factor = make_float2(before.x * scale, before.y * scale);
  float2 decay = Pair(1.0F);
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    if (kRead == ReadKind::kInclusive) decay = Times(decay, tile.gate[i]);
    const float2 q = Times(UnpackWord(tile.q[i]), decay);
    if (kRead == ReadKind::kExclusive) decay = Times(decay, tile.gate[i]);
    StoreWord(&shared.query[warp * kTile + i][2 * lane], q);
    StoreWord(&shared.stage[warp][i][2 * lane], Times(q, factor));
  }
  __syncwarp();
  StoreRows<kForm>(shared.stage[warp], warp, lane, tiles, LoadAFromRows, out);
  __syncwarp();
}

// The same for keys, from the last row to the first; `out` is null if another head's block writes
// them. `growth` takes them from the end of their own row tile back to its start.
template <OperandForm kForm>
__device__ void WriteKeys(PrepareShared& shared, const RowTile& tile, const TileDecays& decays,
                          float2 growth, int warp, int lane, int tiles, uint4* out) {
  float2 decay = Pair(1.0F);
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    const float2 k = Times(UnpackWord(tile.k[i]), decay);
    decay = Times(decay, tile.gate[i]);
    StoreWord(&shared.stage[warp][i][2 * lane], Times(k, decays.after[kChunkTiles]));
    StoreWord(&shared.key[LowerTile(warp, warp) * kTile + i][2 * lane], Times(k, growth));
#pragma unroll
    for (int row = 1; row < kChunkTiles; ++row) {
      if (row <= warp) continue;
      StoreWord(&shared.key[LowerTile(row, warp) * kTile + i][2 * lane],
                Times(k, decays.after[row]));
    }
  }
  __syncwarp();
  if (out != nullptr) {
    StoreRows<kForm>(shared.stage[warp], warp, lane, tiles, LoadBFromColumns, out);
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
// no exponent is ever formed. Lane l adds to column l / 2 of rows l % 2, l % 2 + 2, and so on.
template <ReadKind kRead>
__device__ void AddDiagonal(const RowTile& tile, float2 bonus, int lane,
                            float (&diagonal)[kTile][kTile]) {
  float2 key[kTile];
#pragma unroll
  for (int i = 0; i < kTile; i += 2) {
    float even[kTile];
    float odd[kTile];
    MultiplyRow<kRead>(tile, i, bonus, key, even);
    MultiplyRow<kRead>(tile, i + 1, bonus, key, odd);
    diagonal[i + lane % 2][lane / 2] += SumToLanes(even, odd, lane);
  }
}

// The bonus of two channels of a state head; zeros if there is none.
__device__ float2 LoadBonus(const GatedShape& s, const GatedOperands& op, int kv_head,
                            int channel) {
  if (op.bonus == nullptr || channel >= s.key_dim) return Pair(0.0F);
  return LoadPair(op.bonus + int64_t{kv_head} * s.key_dim + channel);
}

// Adds a slice's part of what a query reads of its own key, of weak gates' rows.
__device__ void AddOwn(const RowTile& tile, float2 bonus, int lane,
                       float (&diagonal)[kTile][kTile]) {
  float products[kTile];
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    const float2 q = Times(UnpackWord(tile.q[i]), bonus);
    const float2 k = UnpackWord(tile.k[i]);
    products[i] = fmaf(q.x, k.x, q.y * k.y);
  }
  const float sum = SumToPairs(products, lane);
  if (lane % 2 == 0) diagonal[lane / 2][lane / 2] += sum;
}

// Adds a slice's part of tile (row, col).
__device__ void AddTile(const PrepareShared& shared, int row, int col, int lane,
                        float (&sum)[2][4]) {
#pragma unroll
  for (int t = 0; t < kSliceTiles; ++t) {
    const uint4 a = LoadAFromRows(&shared.query[row * kTile][t * kTile], kPitch, lane);
    const uint4 b =
        LoadBFromRows(&shared.key[LowerTile(row, col) * kTile][t * kTile], kPitch, lane);
    Mma(sum[0], a, b.x, b.y);
    Mma(sum[1], a, b.z, b.w);
  }
}

// Selects what is below the diagonal of a tile on it, or up to it if read inclusively, and adds
// what was summed apart.
template <ReadKind kRead>
__device__ void FinishDiagonal(const float (&exact)[kTile][kTile], int lane, float (&sum)[2][4]) {
  __syncwarp();
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8;
      const int col = n * 8 + lane % 4 * 2 + i % 2;
      const bool read = kRead == ReadKind::kExclusive ? col < row : col <= row;
      sum[n][i] = (read ? sum[n][i] : 0.0F) + exact[row][col];
    }
  }
}

__device__ void StoreTile(Bf16 (*attention)[kPitch], int row, int col, int lane, float scale,
                          const float (&sum)[2][4]) {
#pragma unroll
  for (int n = 0; n < 2; ++n) {
    Bf16* const at = &attention[row * kTile + lane / 4][col * kTile + n * 8 + lane % 4 * 2];
    StoreWord(at, make_float2(sum[n][0] * scale, sum[n][1] * scale));
    StoreWord(at + 8 * kPitch, make_float2(sum[n][2] * scale, sum[n][3] * scale));
  }
}

// Puts A out of shared memory. All threads take part.
template <OperandForm kForm>
__device__ void WriteAttention(const Bf16 (*rows)[kPitch], uint4* out) {
  if constexpr (kForm == OperandForm::kImages) {
    for (int i = threadIdx.x; i < kImageWords; i += blockDim.x) {
      const int row = i / (kChunk / kPack);
      const int piece = i % (kChunk / kPack);
      const bool lower = piece * kPack / kTile <= row / kTile;
      out[ImageOffset(row, piece) / 16] =
          lower ? *reinterpret_cast<const uint4*>(&rows[row][piece * kPack])
                : make_uint4(0, 0, 0, 0);
    }
  } else {
    const int lane = threadIdx.x % kWarp;
    for (int t = threadIdx.x / kWarp; t < kLowerTiles; t += kChunkTiles) {
      const int row = TriangleRow(t);
      const int col = t - LowerTile(row, 0);
      out[t * kWarp + lane] = LoadAFromRows(&rows[row * kTile][col * kTile], kPitch, lane);
    }
  }
}

// What a block of either kernel works on.
struct PrepareBlock {
  int chunk;
  int head;
  int kv_head;
  bool writes_keys;  // no other head's block does
  ChunkSpan span;

  __device__ int64_t HeadIndex(const GatedShape& s) const {
    return int64_t{chunk} * s.heads + head;
  }
  __device__ int64_t KvIndex(const GatedShape& s) const {
    return int64_t{chunk} * s.kv_heads + kv_head;
  }
};

__device__ PrepareBlock BlockOf(const ChunkParams& p) {
  const GatedShape& s = p.args.shape;
  PrepareBlock block;
  block.chunk = blockIdx.x;
  block.head = blockIdx.y;
  const int group = s.heads / s.kv_heads;
  block.kv_head = block.head / group;
  block.writes_keys = block.head % group == 0;
  block.span = p.args.chunks[block.chunk];
  return block;
}

template <OperandForm kForm>
__device__ uint4* AttentionOut(const ChunkParams& p, const PrepareBlock& block) {
  constexpr int kWords = kForm == OperandForm::kImages ? kImageWords : kLowerTiles * kWarp;
  return static_cast<uint4*>(p.buffers.attention) + block.HeadIndex(p.args.shape) * kWords;
}

// Prepares a slice of 64 channels, and adds its part of `shared.exact`. Warp w of its four owns
// rows 16 w .. 16 w + 15, a lane two channels; the 48 loads of a slice are in flight together. All
// threads of the block take part. The slice's queries and keys are then there for all of them.
template <ReadKind kRead, OperandForm kForm>
__device__ void PrepareSlice(const ChunkParams& p, const PrepareBlock& block, int channel0,
                             int warp, int lane, PrepareShared& shared) {
  const GatedShape& s = p.args.shape;
  constexpr bool kImages = kForm == OperandForm::kImages;
  constexpr int kSliceWords = kImages ? kImageWords : kSliceTiles * kWarp;
  const int channels = kImages ? ImagesOf(s.key_dim) * kSlice : s.key_dim;
  const int channel = channel0 + 2 * lane;
  const int tiles = min(kSliceTiles, s.key_dim / kTile - channel0 / kTile);
  const int at = channel0 / kSlice * kSliceWords;
  RowTile tile;
  float2 total;
  LoadRowTile(p, block.span, block.head, warp, channel, tile, &total);
  StorePair(&shared.total[warp][2 * lane], total);
  __syncthreads();  // Totals are there, and the last slice's products are done.

  const TileDecays decays = TileDecaysOf(shared.total, warp, lane);
  if (block.writes_keys && warp == 0 && channel < channels) {
    StorePair(p.buffers.decay + block.KvIndex(s) * channels + channel, decays.chunk);
  }
  WriteQueries<kRead, kForm>(
      shared, tile, decays.before, s.scale, warp, lane, tiles,
      RowsOut<kForm>(p.buffers.query, block.HeadIndex(s), s.key_dim, warp) + at);
  const bool weak = __all_sync(kAllLanes, fminf(total.x, total.y) >= -kMostGrowth);
  const float2 growth = weak ? Exp(make_float2(-total.x, -total.y)) : Pair(0.0F);
  uint4* const key_out = RowsOut<kForm>(p.buffers.key, block.KvIndex(s), s.key_dim, warp) + at;
  WriteKeys<kForm>(shared, tile, decays, growth, warp, lane, tiles,
                   block.writes_keys ? key_out : nullptr);
  float2 bonus = Pair(0.0F);
  if (kRead == ReadKind::kExclusive) bonus = LoadBonus(s, p.args.operands, block.kv_head, channel);
  if (!weak) {
    AddDiagonal<kRead>(tile, bonus, lane, shared.exact[warp]);
  } else if (kRead == ReadKind::kExclusive) {
    AddOwn(tile, bonus, lane, shared.exact[warp]);
  }
  __syncthreads();  // Queries and keys are there, and the totals were read.
}

__device__ void ClearExact(int lane, float (&exact)[kTile][kTile]) {
  for (int i = lane; i < kTile * kTile; i += kWarp) exact[i / kTile][i % kTile] = 0.0F;
  __syncwarp();
}

// Grid: (chunks, heads). Goes through slices of 64 channels, one after another. Tiles of A are
// products of queries and keys as of the start of the query's row tile: both are decayed, but for
// the keys of the tile itself, which are grown back to its start. Where that is too much for a
// number, the slice's part of the tile is exact in float32 instead. Bound by memory (q, k, gates
// in; queries, keys out) and, close to it, by instructions.
template <ReadKind kRead, OperandForm kForm>
__global__ __launch_bounds__(kChunkThreads,
                             3) void PrepareKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  __shared__ __align__(16) PrepareShared shared;
  const GatedShape& s = p.args.shape;
  const PrepareBlock block = BlockOf(p);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  // Slices after the last channel are images of zeros.
  const int channels = kForm == OperandForm::kImages ? ImagesOf(s.key_dim) * kSlice : s.key_dim;

  // Warps 0 and 1 own two tiles below the diagonal, warps 2 and 3 one.
  const int cross1 = warp + kChunkTiles;
  const int row0 = TriangleRow(warp) + 1;
  const int row1 = TriangleRow(cross1) + 1;
  float cross_sum[2][2][4] = {};
  float diagonal_sum[2][4] = {};
  ClearExact(lane, shared.exact[warp]);
  for (int channel0 = 0; channel0 < channels; channel0 += kSlice) {
    PrepareSlice<kRead, kForm>(p, block, channel0, warp, lane, shared);
    AddTile(shared, warp, warp, lane, diagonal_sum);
    AddTile(shared, row0, warp - CrossTile(row0, 0), lane, cross_sum[0]);
    if (cross1 < kCrossTiles) {
      AddTile(shared, row1, cross1 - CrossTile(row1, 0), lane, cross_sum[1]);
    }
  }

  FinishDiagonal<kRead>(shared.exact[warp], lane, diagonal_sum);
  __syncthreads();  // A takes the place of the queries.
  StoreTile(shared.query, warp, warp, lane, s.scale, diagonal_sum);
  StoreTile(shared.query, row0, warp - CrossTile(row0, 0), lane, s.scale, cross_sum[0]);
  if (cross1 < kCrossTiles) {
    StoreTile(shared.query, row1, cross1 - CrossTile(row1, 0), lane, s.scale, cross_sum[1]);
  }
  __syncthreads();
  WriteAttention<kForm>(shared.query, AttentionOut<kForm>(p, block));
}

// The same for images where chunks are few: 128 threads a slice work on all at once, and a warp
// sums a tile of A over the slices in their order, to the same bits. A block has a
// multiprocessor to itself.
constexpr int kMostSlices = 4;
template <ReadKind kRead>
__global__ __launch_bounds__(kMostSlices* kChunkThreads,
                             1) void PrepareAtOnceKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
  extern __shared__ __align__(16) unsigned char dynamic[];
  auto* const shared = reinterpret_cast<PrepareShared*>(dynamic);  // a slice each
  const GatedShape& s = p.args.shape;
  const PrepareBlock block = BlockOf(p);
  const int slices = ImagesOf(s.key_dim);
  const int slice = threadIdx.x / kChunkThreads;
  const int warp = threadIdx.x / kWarp;
  const int slice_warp = warp % kChunkTiles;
  const int lane = threadIdx.x % kWarp;
  ClearExact(lane, shared[slice].exact[slice_warp]);
  PrepareSlice<kRead, OperandForm::kImages>(p, block, slice * kSlice, slice_warp, lane,
                                            shared[slice]);

  // Tiles of A go around the warps, those on its diagonal first.
  constexpr int kMostTiles = 2;  // of a warp, if there are two slices
  float sums[kMostTiles][2][4] = {};
  const int warps = slices * kChunkTiles;
  const auto for_each_tile = [&](auto visit) {
#pragma unroll
    for (int n = 0; n < kMostTiles; ++n) {
      const int tile = warp + n * warps;
      if (tile >= kLowerTiles) continue;
      const int cross = tile - kChunkTiles;
      const int row = cross < 0 ? tile : TriangleRow(cross) + 1;
      const int col = cross < 0 ? tile : cross - CrossTile(row, 0);
      visit(row, col, sums[n]);
    }
  };
  for_each_tile([&](int row, int col, float(&sum)[2][4]) {
    for (int i = 0; i < slices; ++i) AddTile(shared[i], row, col, lane, sum);
    if (row != col) return;
    float(&exact)[kTile][kTile] = shared[0].exact[row];
    for (int at = lane; at < kTile * kTile; at += kWarp) {
      float& first = exact[at / kTile][at % kTile];
      for (int i = 1; i < slices; ++i) first += shared[i].exact[row][at / kTile][at % kTile];
    }
    FinishDiagonal<kRead>(exact, lane, sum);
  });
  __syncthreads();  // A takes the place of the first slice's queries.
  for_each_tile([&](int row, int col, const float(&sum)[2][4]) {
    StoreTile(shared[0].query, row, col, lane, s.scale, sum);
  });
  __syncthreads();
  WriteAttention<OperandForm::kImages>(shared[0].query,
                                       AttentionOut<OperandForm::kImages>(p, block));
}

template <OperandForm kForm>
void LaunchPrepare(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const dim3 heads(params.args.chunk_count, s.heads);
  if (s.read == ReadKind::kExclusive) {
    LaunchKernel({heads, kChunkThreads}, stream, PrepareKernel<ReadKind::kExclusive, kForm>,
                 params);
  } else {
    LaunchKernel({heads, kChunkThreads}, stream, PrepareKernel<ReadKind::kInclusive, kForm>,
                 params);
  }
}

// Chunks that multiprocessors take one or two of.
bool AreFew(const ChunkParams& params) {
  const GatedShape& s = params.args.shape;
  return int64_t{params.args.chunk_count} * s.heads <= 2 * MultiprocessorCount();
}

void LaunchPrepareAtOnce(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int slices = ImagesOf(s.key_dim);
  const LaunchShape shape = {dim3(params.args.chunk_count, s.heads), slices * kChunkThreads,
                             slices * sizeof(PrepareShared)};
  if (s.read == ReadKind::kExclusive) {
    LaunchKernel(shape, stream, PrepareAtOnceKernel<ReadKind::kExclusive>, params);
  } else {
    LaunchKernel(shape, stream, PrepareAtOnceKernel<ReadKind::kInclusive>, params);
  }
}

}  // namespace

void PrepareBFloat16(const ChunkParams& params, OperandForm form, cudaStream_t stream) {
  if (form == OperandForm::kFragments) {
    LaunchPrepare<OperandForm::kFragments>(params, stream);
  } else if (ImagesOf(params.args.shape.key_dim) > 1 && AreFew(params)) {
    LaunchPrepareAtOnce(params, stream);
  } else {
    LaunchPrepare<OperandForm::kImages>(params, stream);
  }
}

}  // namespace sluice
