// The first kernel of the chunkwise form in bfloat16: decayed queries and keys, and A.
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

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
      tile.gate[i] = i < rows ? LoadPair(gate.first + i * gate.row_stride + channel) : Pair(0.0F);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kTile; ++i) {
      const bool valid = i < rows && gate.first != nullptr;
      const float g = valid ? gate.first[i * gate.row_stride] : 0.0F;
      tile.gate[i] = Pair(g);
    }
  }
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    tile.q[i] = i < rows ? *reinterpret_cast<const uint32_t*>(q + i * op.q_stride) : 0;
    tile.k[i] = i < rows ? *reinterpret_cast<const uint32_t*>(k + i * op.k_stride) : 0;
  }
  if (op.input_scale != nullptr) ScaleKeys(s, op, row, kv_head, rows, tile.k);
  *total = Pair(0.0F);
#pragma unroll
  for (int i = 0; i < kTile; ++i) {
    *total = Added(*total, tile.gate[i]);
    tile.gate[i] = Exp(tile.gate[i]);
  }
}

// Writes a warp's 16 rows of decayed queries: to shared memory for A, and as fragments. Read
// exclusively, they are decayed by the rows before them alone.
template <ReadKind kRead>
__device__ void WriteQueries(PrepareShared& shared, const RowTile& tile, float2 before, float scale,
                             int warp, int lane, int tiles, uint4* fragments) {
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
  for (int t = 0; t < tiles; ++t) {
    fragments[t * kWarp + lane] = LoadAFromRows(&shared.stage[warp][0][t * kTile], kPitch, lane);
  }
  __syncwarp();
}

// The same for keys, from the last row to the first; `fragments` is null if another head's block
// writes them.
__device__ void WriteKeys(PrepareShared& shared, const RowTile& tile, const TileDecays& decays,
                          int warp, int lane, int tiles, uint4* fragments) {
  float2 decay = Pair(1.0F);
#pragma unroll
  for (int i = kTile - 1; i >= 0; --i) {
    const float2 k = Times(UnpackWord(tile.k[i]), decay);
    decay = Times(decay, tile.gate[i]);
    StoreWord(&shared.stage[warp][i][2 * lane], Times(k, decays.after[kChunkTiles]));
#pragma unroll
    for (int row = 1; row < kChunkTiles; ++row) {
      if (row <= warp) continue;
      StoreWord(&shared.key[CrossTile(row, warp) * kTile + i][2 * lane],
                Times(k, decays.after[row]));
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
  if (op.bonus == nullptr || channel >= s.key_dim) return Pair(0.0F);
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

// Puts A through shared memory, where the queries were, to become fragments. All threads take part.
__device__ void WriteAttention(const float (&cross)[2][2][4], const float (&diagonal)[kTile / 2],
                               float scale, int warp, int lane, Bf16 (*rows)[kPitch],
                               uint4* fragments) {
  const int cross1 = warp + kChunkTiles;
  const int row0 = TriangleRow(warp) + 1;
  StoreCross(rows, row0, warp - CrossTile(row0, 0), lane, scale, cross[0]);
  if (cross1 < kCrossTiles) {
    const int row1 = TriangleRow(cross1) + 1;
    StoreCross(rows, row1, cross1 - CrossTile(row1, 0), lane, scale, cross[1]);
  }
#pragma unroll
  for (int i = 0; i < kTile / 2; ++i) {
    rows[warp * kTile + 2 * i + lane % 2][warp * kTile + lane / 2] =
        __float2bfloat16_rn(diagonal[i] * scale);
  }
  __syncthreads();
  for (int t = warp; t < kLowerTiles; t += kChunkTiles) {
    const int row = TriangleRow(t);
    const int col = t - row * (row + 1) / 2;
    fragments[t * kWarp + lane] = LoadAFromRows(&rows[row * kTile][col * kTile], kPitch, lane);
  }
}

// Grid: (chunks, heads). Warp w owns rows 16 w .. 16 w + 15 in slices of 64 channels, a lane two
// channels; the 48 loads of a slice are in flight together. The diagonal tiles of A are exact in
// float32; the six below them are products of two factors <= 1, decayed to the start of the query's
// row tile. Bound by memory (q, k, gates in; queries, keys out) and, close to it, by instructions.
template <ReadKind kRead>
__global__ __launch_bounds__(kChunkThreads,
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

    const TileDecays decays = TileDecaysOf(shared.total, warp, lane);
    if (writes_keys && warp == 0 && channel < s.key_dim) {
      StorePair(decay_out + channel, decays.chunk);
    }
    const int fragment = channel0 / kTile * kWarp;
    WriteQueries<kRead>(shared, tile, decays.before, s.scale, warp, lane, tiles,
                        query_out + fragment);
    WriteKeys(shared, tile, decays, warp, lane, tiles, writes_keys ? key_out + fragment : nullptr);
    float2 bonus = Pair(0.0F);
    if (kRead == ReadKind::kExclusive) bonus = LoadBonus(s, p.args.operands, kv_head, channel);
    AddDiagonal<kRead>(tile, bonus, lane, diagonal);
    __syncthreads();  // Queries and keys are there, and the totals were read.

    AddCross(shared, warp, TriangleRow(warp) + 1, lane, cross_sum[0]);
    if (cross1 < kCrossTiles) {
      AddCross(shared, cross1, TriangleRow(cross1) + 1, lane, cross_sum[1]);
    }
  }

  __syncthreads();
  uint4* const attention_out =
      static_cast<uint4*>(p.buffers.attention) + head_index * kLowerTiles * kWarp;
  WriteAttention(cross_sum, diagonal, s.scale, warp, lane, shared.query, attention_out);
}

}  // namespace

void PrepareBFloat16(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const dim3 heads(params.args.chunk_count, s.heads);
  if (s.read == ReadKind::kExclusive) {
    PrepareKernel<ReadKind::kExclusive><<<heads, kChunkThreads, 0, stream>>>(params);
  } else {
    PrepareKernel<ReadKind::kInclusive><<<heads, kChunkThreads, 0, stream>>>(params);
  }
  SLUICE_CUDA_CHECK(cudaGetLastError());
}

}  // namespace sluice
