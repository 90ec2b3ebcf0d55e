// The first kernel of the chunkwise form in bfloat16 where a row has one decay for all channels of
// K. It then leaves the products of queries and keys, which heads may share, and stands on A, on
// the values of the states and on the sums of the output instead of on queries and keys.
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"
#include "kernels/wgmma.cuh"

namespace sluice {
namespace {

constexpr int kMostHeads = 8;  // of a block

struct ScoresShared {
  Bf16 query[2][kChunk][kPitch];
  Bf16 key[2][kChunk][kPitch];
  float gate[kMostHeads][kChunk];         // log decays, then exp of them
  float input[kMostHeads][kChunk];        // what multiplies the key; 0 after the chunk's last row
  float up[kMostHeads][kChunk];           // decay from the start of the row's tile to its read
  float down[kMostHeads][kChunk];         // decay from the row to its tile's end
  float own[kMostHeads][kChunk];          // q_i k_i weighed by the bonus
  float totals[kMostHeads][kChunkTiles];  // sums of tiles' log decays
};
static_assert(sizeof(ScoresShared) <= 48 << 10, "fits without asking");

// The heads of a block: all read the same q and k.
struct Heads {
  int first;
  int count;
  int query_head;
  int key_head;
  int group;  // query heads that read a state
};

__device__ Heads HeadsOf(const GatedShape& s, int block) {
  const int blocks = (s.shared_keys + kMostHeads - 1) / kMostHeads;  // of a query head
  const int skipped = block % blocks * kMostHeads;
  Heads heads;
  heads.group = s.heads / s.kv_heads;
  heads.query_head = block / blocks;
  heads.first = heads.query_head * s.shared_keys + skipped;
  heads.count = min(kMostHeads, s.shared_keys - skipped);
  heads.key_head = heads.first / heads.group / s.shared_keys;
  return heads;
}

// Starts copying channels [channel0, channel0 + kSlice) of the chunk's rows.
__device__ void LoadSlice(const Bf16* matrix, int64_t stride, int rows, int channels, int channel0,
                          Bf16 (*slice)[kPitch]) {
#pragma unroll
  for (int n = 0; n < kChunk * kSlice / kPack / kChunkThreads; ++n) {
    const int i = n * kChunkThreads + threadIdx.x;
    const int row = i / (kSlice / kPack);
    const int channel = channel0 + i % (kSlice / kPack) * kPack;
    const bool valid = row < rows && channel < channels;
    CopyAsync(&slice[row][channel - channel0], matrix + (valid ? row * stride + channel : 0),
              valid);
  }
}

__device__ void LoadSlices(const ChunkParams& p, const ChunkSpan& span, const Heads& heads,
                           int channel0, int channels, int stage, ScoresShared& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  if (channel0 < channels) {
    const Bf16* const q = static_cast<const Bf16*>(op.q) + span.row * op.q_stride +
                          int64_t{heads.query_head} * s.key_dim;
    const Bf16* const k = static_cast<const Bf16*>(op.k) + span.row * op.k_stride +
                          int64_t{heads.key_head} * s.key_dim;
    LoadSlice(q, op.q_stride, span.length, s.key_dim, channel0, shared.query[stage]);
    LoadSlice(k, op.k_stride, span.length, s.key_dim, channel0, shared.key[stage]);
  }
  CopyAsyncCommit();
}

__device__ void LoadGates(const ChunkParams& p, const ChunkSpan& span, const Heads& heads,
                          ScoresShared& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
#pragma unroll
  for (int step = 0; step < kMostHeads * kChunk / kChunkThreads; ++step) {
    const int i = step * kChunkThreads + threadIdx.x;
    const int n = i % kMostHeads;
    const int row = i / kMostHeads;
    if (n >= heads.count) continue;
    const int kv_head = (heads.first + n) / heads.group;
    const GateView gate = ViewGate(s, op, span.row, kv_head);
    const bool valid = row < span.length;
    const bool has_scale = valid && op.input_scale != nullptr;
    const int64_t scale_at = (int64_t{span.row} + row) * s.kv_heads + kv_head;
    shared.gate[n][row] = valid && gate.first != nullptr ? gate.first[row * gate.row_stride] : 0.0F;
    shared.input[n][row] = has_scale ? op.input_scale[scale_at] : (valid ? 1.0F : 0.0F);
  }
}

// Decays within a row tile, each the exponential of a sum of numbers <= 0. Read exclusively, a row
// is decayed by the rows before it alone.
__device__ void SumGates(bool exclusive, int count, ScoresShared& shared) {
  for (int i = threadIdx.x; i < count * kChunk; i += kChunkThreads) {
    const int n = i / kChunk;
    const int row = i % kChunk;
    const int last = row % kTile - (exclusive ? 1 : 0);
    const float* const gate = &shared.gate[n][row / kTile * kTile];
    float up = 0.0F;
    float down = 0.0F;
    float total = 0.0F;
#pragma unroll
    for (int r = 0; r < kTile; ++r) {
      total += gate[r];
      if (r <= last) up += gate[r];
      if (r > row % kTile) down += gate[r];
    }
    shared.up[n][row] = expf(up);
    shared.down[n][row] = expf(down);
    if (row % kTile == 0) shared.totals[n][row / kTile] = total;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < count * kChunk; i += kChunkThreads) {
    float& gate = shared.gate[i / kChunk][i % kChunk];
    gate = expf(gate);
  }
}

// The decay over row tiles [begin, end).
__device__ float TilesDecay(const float (&totals)[kChunkTiles], int begin, int end) {
  float sum = 0.0F;
#pragma unroll
  for (int t = 0; t < kChunkTiles; ++t) {
    if (t >= begin && t < end) sum += totals[t];
  }
  return expf(sum);
}

// What the other kernels multiply sums and values with, and the decay of the chunk.
template <OperandForm kForm>
__device__ void WriteWeights(const ChunkParams& p, int chunk, const Heads& heads,
                             const ScoresShared& shared) {
  const GatedShape& s = p.args.shape;
  constexpr bool kImages = kForm == OperandForm::kImages;
  const int channels = kImages ? ImagesOf(s.key_dim) * kSlice : s.key_dim;
  for (int i = threadIdx.x; i < heads.count * kChunk; i += kChunkThreads) {
    const int n = i / kChunk;
    const int row = i % kChunk;
    const int tile = row / kTile;
    const int head = heads.first + n;
    const float before = TilesDecay(shared.totals[n], 0, tile);
    p.buffers.query_weight[(int64_t{chunk} * s.heads + head) * kChunk + row] =
        s.scale * shared.up[n][row] * before;
    if (head % heads.group != 0) continue;
    const int64_t kv_index = int64_t{chunk} * s.kv_heads + head / heads.group;
    const float after = TilesDecay(shared.totals[n], tile + 1, kChunkTiles);
    p.buffers.value_weight[kv_index * kChunk + row] =
        shared.input[n][row] * shared.down[n][row] * after;
    const float all = TilesDecay(shared.totals[n], 0, kChunkTiles);
    for (int c = row; c < channels; c += kChunk) p.buffers.decay[kv_index * channels + c] = all;
  }
}

// q_i k_i weighed by each head's bonus: of a warp, the rows of its row tile.
__device__ void WeighOwn(const ChunkParams& p, const ChunkSpan& span, const Heads& heads, int warp,
                         int lane, ScoresShared& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  for (int i = 0; i < heads.count * kTile; ++i) {
    const int n = i / kTile;
    const int row = warp * kTile + i % kTile;
    const int kv_head = (heads.first + n) / heads.group;
    float sum = 0.0F;
    if (op.bonus != nullptr && row < span.length) {
      const int64_t at = int64_t{span.row} + row;
      const Bf16* const q =
          static_cast<const Bf16*>(op.q) + at * op.q_stride + int64_t{heads.query_head} * s.key_dim;
      const Bf16* const k =
          static_cast<const Bf16*>(op.k) + at * op.k_stride + int64_t{heads.key_head} * s.key_dim;
      const float* const bonus = op.bonus + int64_t{kv_head} * s.key_dim;
      for (int c = lane; c < s.key_dim; c += kWarp) {
        sum = fmaf(ToFloat(q[c]) * bonus[c], ToFloat(k[c]), sum);
      }
    }
    sum = WarpReduce(sum, Plus{});
    if (lane == 0) shared.own[n][row] = sum;
  }
}

// A tile of A: products of queries of row tile `row` with keys of row tile `col`.
struct ScoreTile {
  int row;
  int col;
  float sum[2][4];
};

__device__ void AddProducts(const ScoresShared& shared, int stage, int lane, ScoreTile& tile) {
#pragma unroll
  for (int t = 0; t < kSliceTiles; ++t) {
    const uint4 a = LoadAFromRows(&shared.query[stage][tile.row * kTile][t * kTile], kPitch, lane);
    const uint4 b = LoadBFromRows(&shared.key[stage][tile.col * kTile][t * kTile], kPitch, lane);
    Mma(tile.sum[0], a, b.x, b.y);
    Mma(tile.sum[1], a, b.z, b.w);
  }
}

// What multiplies a lane's numbers of a tile: by row (g, g + 8), then by column (2t, 2t + 1,
// 2t + 8, 2t + 9), with the names of mma.cuh.
using TileWeights = float[2][4];

// Column of a tile that a lane's number `index` of a row is in.
__device__ int ColumnOf(int index, int lane) { return lane % 4 * 2 + index % 2 + index / 2 * 8; }

// Stores a tile of A.
template <OperandForm kForm>
__device__ void StoreTile(const ScoreTile& tile, const TileWeights& weights, int lane,
                          uint4* attention) {
  const auto word = [&](int half, int row) {
    const float* const sum = &tile.sum[half][row * 2];
    const float* const weight = &weights[row][half * 2];
    return PackWord(sum[0] * weight[0], sum[1] * weight[1]);
  };
  if constexpr (kForm == OperandForm::kImages) {
    char* const image = reinterpret_cast<char*>(attention) + lane % 4 * 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = ImageOffset(tile.row * kTile + lane / 4 + i % 2 * 8, tile.col * 2 + i / 2);
      *reinterpret_cast<uint32_t*>(image + at) = word(i / 2, i % 2);
    }
  } else {
    attention[LowerTile(tile.row, tile.col) * kWarp + lane] =
        make_uint4(word(0, 0), word(0, 1), word(1, 0), word(1, 1));
  }
}

// Writes the tiles above A's diagonal of an image.
__device__ void StoreAbove(uint4* attention) {
  for (int i = threadIdx.x; i < kImageWords; i += kChunkThreads) {
    const int row = i / (kChunk / kPack);
    const int piece = i % (kChunk / kPack);
    if (piece * kPack / kTile <= row / kTile) continue;
    attention[ImageOffset(row, piece) / 16] = make_uint4(0, 0, 0, 0);
  }
}

// Puts a slice of queries and keys out as they are.
__device__ void StoreSlices(const ChunkParams& p, int chunk, const Heads& heads, int slice,
                            int stage, const ScoresShared& shared) {
  const GatedShape& s = p.args.shape;
  const int64_t index = int64_t{chunk} * s.QueryHeads() + heads.query_head;
  const int64_t at = (index * ImagesOf(s.key_dim) + slice) * kImageWords;
  for (int i = threadIdx.x; i < kImageWords; i += kChunkThreads) {
    const int row = i / (kSlice / kPack);
    const int piece = i % (kSlice / kPack);
    const int64_t to = at + ImageOffset(row, piece) / 16;
    static_cast<uint4*>(p.buffers.query)[to] =
        *reinterpret_cast<const uint4*>(&shared.query[stage][row][piece * kPack]);
    static_cast<uint4*>(p.buffers.key)[to] =
        *reinterpret_cast<const uint4*>(&shared.key[stage][row][piece * kPack]);
  }
}

// Below the diagonal: down to the end of the key's tile, over those between, to the query's row.
template <OperandForm kForm>
__device__ void StoreBelow(const ScoresShared& shared, int n, float scale, const ScoreTile& tile,
                           int lane, uint4* attention) {
  const float between = TilesDecay(shared.totals[n], tile.col + 1, tile.row) * scale;
  TileWeights weights;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int key = tile.col * kTile + ColumnOf(i, lane);
    const float down = shared.down[n][key] * between * shared.input[n][key];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      weights[r][i] = shared.up[n][tile.row * kTile + lane / 4 + r * 8] * down;
    }
  }
  StoreTile<kForm>(tile, weights, lane, attention);
}

// On the diagonal: decays are products of the rows' own, walked from the query's row back.
template <ReadKind kRead, OperandForm kForm>
__device__ void StoreDiagonal(const ScoresShared& shared, int n, float scale, const ScoreTile& tile,
                              int lane, uint4* attention) {
  constexpr bool kExclusive = kRead == ReadKind::kExclusive;
  const int first = tile.row * kTile;
  float gate[kTile];
#pragma unroll
  for (int j = 0; j < kTile; ++j) gate[j] = shared.gate[n][first + j];
  TileWeights weights = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = lane / 4 + r * 8;
    const int last = kExclusive ? row - 1 : row;
    float decay = 1.0F;
#pragma unroll
    for (int j = kTile - 1; j >= 0; --j) {
      if (j + 1 < kTile && j < last) decay *= gate[j + 1];
      if (j > last || j % 8 / 2 != lane % 4) continue;
      weights[r][j / 8 * 2 + j % 2] = decay;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int column = ColumnOf(i, lane);
    const float factor = shared.input[n][first + column] * scale;
#pragma unroll
    for (int r = 0; r < 2; ++r) weights[r][i] *= factor;
  }
  // What is above the diagonal is selected to zero, never multiplied.
  ScoreTile weighed = tile;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int column = ColumnOf(i, lane);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = lane / 4 + r * 8;
      float& sum = weighed.sum[i / 2][r * 2 + i % 2];
      if (column > row) sum = 0.0F;
      if (!kExclusive || column != row) continue;
      sum = shared.own[n][first + column];
      weights[r][i] = shared.input[n][first + column] * scale;
    }
  }
  StoreTile<kForm>(weighed, weights, lane, attention);
}

// Grid: (chunks, query heads x blocks of heads that share them). Queries are multiplied by keys
// once for up to 8 heads. A warp owns one tile on A's diagonal and one or two below it. Bound by
// memory: q, k in, A out.
template <ReadKind kRead, OperandForm kForm>
__global__ __launch_bounds__(kChunkThreads) void ScoresKernel(
    const __grid_constant__ ChunkParams p) {
  EnterStream();
  __shared__ __align__(16) ScoresShared shared;
  const GatedShape& s = p.args.shape;
  const int chunk = blockIdx.x;
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const Heads heads = HeadsOf(s, blockIdx.y);
  const ChunkSpan span = p.args.chunks[chunk];

  constexpr bool kImages = kForm == OperandForm::kImages;
  // Slices after the last channel are images of zeros.
  const int channels = kImages ? ImagesOf(s.key_dim) * kSlice : s.key_dim;
  LoadSlices(p, span, heads, 0, channels, 0, shared);
  LoadGates(p, span, heads, shared);
  __syncthreads();
  SumGates(kRead == ReadKind::kExclusive, heads.count, shared);
  if (kRead == ReadKind::kExclusive) WeighOwn(p, span, heads, warp, lane, shared);

  // Warps 0 and 1 own two tiles below the diagonal, warps 2 and 3 one.
  const int row0 = TriangleRow(warp) + 1;
  const int row1 = TriangleRow(warp + kChunkTiles) + 1;
  const bool has_second = warp + kChunkTiles < kCrossTiles;
  ScoreTile diagonal = {warp, warp, {}};
  ScoreTile below = {row0, warp - CrossTile(row0, 0), {}};
  ScoreTile second = {row1, warp + kChunkTiles - CrossTile(row1, 0), {}};
  for (int channel0 = 0; channel0 < channels; channel0 += kSlice) {
    const int stage = channel0 / kSlice % 2;
    LoadSlices(p, span, heads, channel0 + kSlice, channels, 1 - stage, shared);
    CopyAsyncWait<1>();
    __syncthreads();  // The slice is there for all.
    if (kImages && heads.first % s.shared_keys == 0) {
      StoreSlices(p, chunk, heads, channel0 / kSlice, stage, shared);
    }
    AddProducts(shared, stage, lane, diagonal);
    AddProducts(shared, stage, lane, below);
    if (has_second) AddProducts(shared, stage, lane, second);
    __syncthreads();  // All are done with the slice.
  }
  CopyAsyncWait<0>();

  WriteWeights<kForm>(p, chunk, heads, shared);
  constexpr int kAttentionWords = kImages ? kImageWords : kLowerTiles * kWarp;
  for (int n = 0; n < heads.count; ++n) {
    uint4* const attention = static_cast<uint4*>(p.buffers.attention) +
                             (int64_t{chunk} * s.heads + heads.first + n) * kAttentionWords;
    StoreDiagonal<kRead, kForm>(shared, n, s.scale, diagonal, lane, attention);
    StoreBelow<kForm>(shared, n, s.scale, below, lane, attention);
    if (has_second) StoreBelow<kForm>(shared, n, s.scale, second, lane, attention);
    if (kImages) StoreAbove(attention);
  }
}

template <OperandForm kForm>
void LaunchScores(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int blocks = s.QueryHeads() * ((s.shared_keys + kMostHeads - 1) / kMostHeads);
  const dim3 grid(params.args.chunk_count, blocks);
  if (s.read == ReadKind::kExclusive) {
    LaunchKernel({grid, kChunkThreads}, stream, ScoresKernel<ReadKind::kExclusive, kForm>, params);
  } else {
    LaunchKernel({grid, kChunkThreads}, stream, ScoresKernel<ReadKind::kInclusive, kForm>, params);
  }
}

}  // namespace

void ScoresBFloat16(const ChunkParams& params, OperandForm form, cudaStream_t stream) {
  if (form == OperandForm::kImages) {
    LaunchScores<OperandForm::kImages>(params, stream);
  } else {
    LaunchScores<OperandForm::kFragments>(params, stream);
  }
}

}  // namespace sluice
