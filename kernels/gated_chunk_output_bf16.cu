// The last kernel of the chunkwise form in bfloat16: what queries read of the state, and A of V.
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"

namespace sluice {
namespace {

constexpr int kWarpV = 32;  // columns of a warp

// kRing: K tiles of the state on their way to a warp.
template <int kWarps, int kRing>
struct OutputShared {
  static constexpr int kThreads = kWarps * kWarp;
  static constexpr int kColumns = kWarps * kWarpV;  // of a block
  static constexpr int kPitch = kColumns + 8;       // no bank conflicts

  uint4 attention[kLowerTiles][kWarp];   // fragments
  uint4 state[kWarps][kRing][2][kWarp];  // fragments, each lane's read by itself alone
  Bf16 value[kChunk][kPitch];            // then the output, each warp its own columns
  // Behind it the queries: fragments [row tile][K tile][lane], or rows QueryPitch(K) apart.
};

constexpr int QueryPitch(int key_dim) { return key_dim + 8; }  // no bank conflicts

template <ChunkKind kKind>
constexpr int QueryBytes(int key_dim) {
  return kChunk * 2 * (kKind == ChunkKind::kRows ? QueryPitch(key_dim) : key_dim);
}

// Starts copying the chunk's queries.
template <ChunkKind kKind, int kThreads>
__device__ void LoadQueries(const ChunkParams& p, const ChunkSpan& span, int64_t head_index,
                            int head, uint4* to) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const int words = s.key_dim / kPack;  // of a row
  if constexpr (kKind == ChunkKind::kRows) {
    const Bf16* const queries = static_cast<const Bf16*>(op.q) + span.row * op.q_stride +
                                int64_t{head / s.shared_keys} * s.key_dim;
    const int pitch = QueryPitch(s.key_dim) / kPack;
    for (int i = threadIdx.x; i < kChunk * words; i += kThreads) {
      const int row = i / words;
      const int word = i % words;
      const bool valid = row < span.length;
      CopyAsync(to + row * pitch + word, queries + (valid ? row * op.q_stride + word * kPack : 0),
                valid);
    }
  } else {
    const uint4* const queries =
        static_cast<const uint4*>(p.buffers.query) + head_index * kChunk * words;
    for (int i = threadIdx.x; i < kChunk * words; i += kThreads) {
      CopyAsync(to + i, queries + i, true);
    }
  }
}

// Queries of row tile `row`, K tile `key_tile`, as A.
template <ChunkKind kKind>
__device__ uint4 QueryOf(const uint4* queries, int row, int key_tile, int key_dim, int lane) {
  if constexpr (kKind == ChunkKind::kRows) {
    const int pitch = QueryPitch(key_dim);
    const Bf16* const rows = reinterpret_cast<const Bf16*>(queries);
    return LoadAFromRows(rows + row * kTile * pitch + key_tile * kTile, pitch, lane);
  } else {
    return queries[(row * (key_dim / kTile) + key_tile) * kWarp + lane];
  }
}

// Starts copying the chunk's A and values.
template <typename Shared>
__device__ void LoadOutputOperands(const ChunkParams& p, const ChunkSpan& span, int64_t head_index,
                                   int kv_head, int value0, Shared& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  constexpr int kWords = Shared::kColumns / kPack;  // of a row
  const uint4* const attention =
      static_cast<const uint4*>(p.buffers.attention) + head_index * kLowerTiles * kWarp;
  for (int i = threadIdx.x; i < kLowerTiles * kWarp; i += Shared::kThreads) {
    CopyAsync(&shared.attention[0][0] + i, attention + i, true);
  }
  const Bf16* const values =
      static_cast<const Bf16*>(op.v) + span.row * op.v_stride + int64_t{kv_head} * s.value_dim;
#pragma unroll
  for (int n = 0; n < kChunk * kWords / Shared::kThreads; ++n) {
    const int i = n * Shared::kThreads + threadIdx.x;
    const int row = i / kWords;
    const int col = i % kWords * kPack;
    const bool valid = row < span.length && value0 + col < s.value_dim;
    CopyAsync(&shared.value[row][col], values + (valid ? row * op.v_stride + value0 + col : 0),
              valid);
  }
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

// A warp's 64 rows by 32 columns of sums.
using OutputTile = float[kChunkTiles][4][4];

// Rounds a warp's 64 x 32 sums into its own columns of `tile` and stores its rows from there, 16
// bytes a lane.
template <int kPitch>
__device__ void StoreWarpOutput(const ChunkParams& p, const ChunkSpan& span, int head, int value0,
                                const OutputTile& sum, Bf16 (*tile)[kPitch]) {
  const GatedShape& s = p.args.shape;
  const int lane = threadIdx.x % kWarp;
  const int column0 = threadIdx.x / kWarp * kWarpV;
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kChunkTiles; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      Bf16* const at = &tile[m * kTile + lane / 4][column0 + n * 8 + lane % 4 * 2];
      StoreWord(at, make_float2(sum[m][n][0], sum[m][n][1]));
      StoreWord(at + 8 * kPitch, make_float2(sum[m][n][2], sum[m][n][3]));
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

// Adds the products of four row tiles, from `first` on, with two tiles of B. `rows(m)` is that of
// A.
template <typename Rows>
__device__ void AddTiles(int first, Rows rows, const uint4& b0, const uint4& b1, OutputTile& sum) {
#pragma unroll
  for (int m = 0; m < kChunkTiles; ++m) {
    if (m < first) continue;
    const uint4 a = rows(m);
    Mma(sum[m][0], a, b0.x, b0.y);
    Mma(sum[m][1], a, b0.z, b0.w);
    Mma(sum[m][2], a, b1.x, b1.y);
    Mma(sum[m][3], a, b1.z, b1.w);
  }
}

// Multiplies each row of the sums by its weight.
__device__ void WeighRows(const float (&weights)[kChunkTiles][2], OutputTile& sum) {
#pragma unroll
  for (int m = 0; m < kChunkTiles; ++m) {
#pragma unroll
    for (int n = 0; n < 4; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[m][n][i] *= weights[m][i / 2];
    }
  }
}

// Grid: chunks x heads x tiles of V. A block owns 64 rows of the output by 32 columns a warp,
// float32 in registers. Queries, A and values are shared; the state comes to each lane as the words
// that it multiplies, kRing tiles ahead. Bound by memory: states, values in, output out.
template <ChunkKind kKind, int kWarps, int kRing>
__global__ __launch_bounds__(kWarps* kWarp) void OutputKernel(
    const __grid_constant__ ChunkParams p) {
  EnterStream();
  extern __shared__ __align__(16) unsigned char dynamic[];
  using Shared = OutputShared<kWarps, kRing>;
  Shared& shared = *reinterpret_cast<Shared*>(dynamic);
  uint4* const queries = reinterpret_cast<uint4*>(dynamic + sizeof(Shared));
  const GatedShape& s = p.args.shape;
  const auto [chunk, head, value0] = OutputBlockOf(p, Shared::kColumns);
  const int kv_head = head / (s.heads / s.kv_heads);
  const int warp = threadIdx.x / kWarp;
  const int lane = threadIdx.x % kWarp;
  const int key_tiles = s.key_dim / kTile;
  const int value_tiles = s.value_dim / kTile;
  const int value_tile = (value0 + warp * kWarpV) / kTile;
  const ChunkSpan span = p.args.chunks[chunk];
  const int64_t head_index = int64_t{chunk} * s.heads + head;
  const uint4* const state =
      static_cast<const uint4*>(p.buffers.state) +
      (int64_t{chunk} * s.kv_heads + kv_head) * key_tiles * value_tiles * kWarp;

  LoadQueries<kKind, Shared::kThreads>(p, span, head_index, head, queries);
  LoadOutputOperands(p, span, head_index, kv_head, value0, shared);
  CopyAsyncCommit();
  for (int t = 0; t < kRing; ++t) {
    LoadStateTile(state, t, key_tiles, value_tile, value_tiles, lane, shared.state[warp][t]);
  }
  float weights[kChunkTiles][2];
  if constexpr (kKind == ChunkKind::kRows) {
#pragma unroll
    for (int i = 0; i < kChunkTiles * 2; ++i) {
      weights[i / 2][i % 2] = p.buffers.query_weight[head_index * kChunk + i * 8 + lane / 4];
    }
  }
  CopyAsyncWait<kRing>();
  __syncthreads();

  OutputTile sum = {};
  for (int t = 0; t < key_tiles; ++t) {
    CopyAsyncWait<kRing - 1>();
    uint4(*const slot)[kWarp] = shared.state[warp][t % kRing];
    const uint4 b0 = slot[0][lane];
    const uint4 b1 = slot[1][lane];
    AddTiles(
        0, [&](int m) { return QueryOf<kKind>(queries, m, t, s.key_dim, lane); }, b0, b1, sum);
    LoadStateTile(state, t + kRing, key_tiles, value_tile, value_tiles, lane, slot);
  }
  if constexpr (kKind == ChunkKind::kRows) WeighRows(weights, sum);
#pragma unroll
  for (int row = 0; row < kChunkTiles; ++row) {  // of the values, column tile of A
    const Bf16* const values = &shared.value[row * kTile][warp * kWarpV];
    const uint4 b0 = LoadBFromColumns(values, Shared::kPitch, lane);
    const uint4 b1 = LoadBFromColumns(values + kTile, Shared::kPitch, lane);
    AddTiles(
        row, [&](int m) { return shared.attention[LowerTile(m, row)][lane]; }, b0, b1, sum);
  }
  CopyAsyncWait<0>();
  StoreWarpOutput(p, span, head, value0, sum, shared.value);
}

template <ChunkKind kKind, int kWarps, int kRing>
constexpr int OutputBytes(int key_dim) {
  return static_cast<int>(sizeof(OutputShared<kWarps, kRing>)) + QueryBytes<kKind>(key_dim);
}

template <ChunkKind kKind, int kWarps, int kRing>
void LaunchOutput(const ChunkParams& params, cudaStream_t stream) {
  constexpr auto kKernel = OutputKernel<kKind, kWarps, kRing>;
  const dim3 blocks(OutputBlocks(params, kWarps * kWarpV));
  const size_t bytes = OutputBytes<kKind, kWarps, kRing>(params.args.shape.key_dim);
  LaunchKernel({blocks, kWarps * kWarp, bytes}, stream, kKernel, params);
}

// A ring as long as it may be with all but the largest K; the shorter one leaves room for any.
template <ChunkKind kKind>
void ChooseOutput(const ChunkParams& params, cudaStream_t stream) {
  static_assert(OutputBytes<kKind, 2, 4>(kMaxGatedDim) <= kMostShared, "any K fits on any GPU");
  static_assert(OutputBytes<kKind, 4, 3>(kMaxGatedDim) <= kMostShared, "any K fits on any GPU");
  const GatedShape& s = params.args.shape;
  if (s.value_dim <= 2 * kWarpV) {
    LaunchOutput<kKind, 2, 4>(params, stream);
  } else if (OutputBytes<kKind, 4, 4>(s.key_dim) <= kMostShared) {
    LaunchOutput<kKind, 4, 4>(params, stream);
  } else {
    LaunchOutput<kKind, 4, 3>(params, stream);
  }
}

}  // namespace

void OutputBFloat16(const ChunkParams& params, cudaStream_t stream) {
  if (ChunkKindOf(params.args.shape) == ChunkKind::kRows) {
    ChooseOutput<ChunkKind::kRows>(params, stream);
  } else {
    ChooseOutput<ChunkKind::kChannels>(params, stream);
  }
}

}  // namespace sluice
