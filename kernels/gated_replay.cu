// A step over states of any format. A cluster of blocks owns a state head of a row, each block
// tiles of 128 bytes of V: whole lines of the matrix. It asks for its part of the matrix before
// anything else, and while that is on its way the cluster makes the scores of the ring. A block
// that folds reads its part once more, from the L2 cache: kept in registers, it would leave none to
// fold with.
//
// Bytes of a head, K x V of b bytes, n of L tokens in the ring: K V b read, n (K + V) 4 of the
// ring, K 4 of its sums read and written, (K + V) 4 of the token; in one step of L K V b written
// instead of the token. The sums of the gates and the token's own operands are read by each block.
#include "kernels/gated_replay.cuh"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/gated_replay_cuda.h"
#include "kernels/gated_step.cuh"

namespace sluice {
namespace {

constexpr int kGroupHeads = 4;    // query heads that share a pass over a state
constexpr int kFoldRows = 8;      // of a thread in flight while it folds
constexpr int kFoldNumbers = 32;  // that a thread makes at once

template <StateType kType>
constexpr int kTile = kReplayLanes* kPackedNumbers<kType>;

// A thread's columns of every kReplayGroups-th row, kCount of them in flight at once.
template <StateType kType, int kCount>
struct StateRows {
  uint4 raw[kCount];
};

template <StateType kType, int kHeads>
struct Sums {
  float v[kHeads][kPackedNumbers<kType>];
};

__device__ int32_t RowsOfThread(const ReplayBlock& b) { return b.shape().key_dim / kReplayGroups; }

// The thread's first column of a tile; it may lie behind V.
template <StateType kType>
__device__ int32_t ColumnOf(const ReplayBlock& b, int32_t tile) {
  return tile * kTile<kType> + b.lane * kPackedNumbers<kType>;
}

// Row `i` of the thread.
template <StateType kType>
__device__ uint4* RowAt(const ReplayBlock& b, int32_t column, int32_t i) {
  const int32_t row = b.group + i * kReplayGroups;
  const int32_t at = (row * b.shape().value_dim + column) / kPackedNumbers<kType>;
  return reinterpret_cast<uint4*>(b.state().matrix) + at;
}

// Rows `base` and on of the thread; zero where there is none.
template <StateType kType, int kCount>
__device__ void LoadRows(const ReplayBlock& b, int32_t column, int32_t base,
                         StateRows<kType, kCount>& rows) {
  const int32_t count = column < b.shape().value_dim ? RowsOfThread(b) - base : 0;
  const uint4* const from = RowAt<kType>(b, column, base);
  const int32_t step = kReplayGroups * b.shape().value_dim / kPackedNumbers<kType>;
  if (count >= kCount) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) rows.raw[i] = from[i * step];
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      rows.raw[i] = i < count ? from[i * step] : make_uint4(0, 0, 0, 0);
    }
  }
}

// Adds what the queries read of row `i` of the thread.
template <StateType kType, int kHeads>
__device__ void AddRow(const ReplayBlock& b, int32_t i, uint4 raw, Sums<kType, kHeads>& sums) {
  const int32_t c = b.group + i * kReplayGroups;
  const Unpacked<kType> x = UnpackNumbers<kType>(raw);
  const float read = b.memory[b.p.at.row_read + c];
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    const float weight = b.memory[b.p.at.query + h * b.shape().key_dim + c] * read;
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) {
      sums.v[h][n] = fmaf(weight, x.v[n], sums.v[h][n]);
    }
  }
}

// The same of rows `base` and on.
template <StateType kType, int kCount, int kHeads>
__device__ void AddRows(const ReplayBlock& b, int32_t base, const StateRows<kType, kCount>& rows,
                        Sums<kType, kHeads>& sums) {
  const int32_t count = RowsOfThread(b) - base;
  if (count >= kCount) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) AddRow(b, base + i, rows.raw[i], sums);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count) AddRow(b, base + i, rows.raw[i], sums);
    }
  }
}

// Values of token j of the ring in the thread's columns.
template <StateType kType>
__device__ Unpacked<kType> LoadRing(const ReplayBlock& b, int32_t column, int32_t j) {
  Unpacked<kType> x = {};
  if (column >= b.shape().value_dim || j >= b.held) return x;
  const float* const from = b.state().values + int64_t{j} * b.shape().value_dim + column;
#pragma unroll
  for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
    const float4 v = LoadQuad(from + n);
    x.v[n] = v.x;
    x.v[n + 1] = v.y;
    x.v[n + 2] = v.z;
    x.v[n + 3] = v.w;
  }
  return x;
}

// Adds every kReplayGroups-th token of the ring, of which the first one's values are here.
template <StateType kType, int kHeads>
__device__ void AddRing(const ReplayBlock& b, int32_t column, Unpacked<kType> values,
                        const ReplayScores<kHeads>& scores, Sums<kType, kHeads>& sums) {
#pragma unroll 1
  for (int32_t j = b.group; j < b.held; j += kReplayGroups) {
    if (j > b.group) values = LoadRing<kType>(b, column, j);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int n = 0; n < kPackedNumbers<kType>; ++n) {
        sums.v[h][n] = fmaf(scores.v[h][j], values.v[n], sums.v[h][n]);
      }
    }
  }
}

// Adds the threads' sums in a fixed order and the token's own part, and stores the outputs.
template <StateType kType, int kHeads>
__device__ void StoreOutput(const ReplayBlock& b, const HeadPass& pass, int32_t tile,
                            const ReplayScores<kHeads>& scores, Sums<kType, kHeads>& sums,
                            float (&partial)[kReplayWarps][kHeads][kTile<kType>]) {
  constexpr int kNumbers = kPackedNumbers<kType>;
  const GatedShape& s = b.shape();
  const int warp = threadIdx.x / kWarp;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
#pragma unroll
      for (int offset = kReplayLanes; offset < kWarp; offset *= 2) {
        sums.v[h][n] += __shfl_xor_sync(kAllLanes, sums.v[h][n], offset);
      }
    }
    if (threadIdx.x % kWarp >= kReplayLanes) continue;
#pragma unroll
    for (int n = 0; n < kNumbers; n += 4) {
      *reinterpret_cast<float4*>(&partial[warp][h][b.lane * kNumbers + n]) =
          make_float4(sums.v[h][n], sums.v[h][n + 1], sums.v[h][n + 2], sums.v[h][n + 3]);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < pass.count * kTile<kType>; i += kReplayThreads) {
    const int h = i / kTile<kType>;
    const int v = i % kTile<kType>;
    const int32_t column = tile * kTile<kType> + v;
    if (column >= s.value_dim) continue;
    float total = partial[0][h][v];
#pragma unroll
    for (int w = 1; w < kReplayWarps; ++w) total += partial[w][h][v];
    total = fmaf(scores.v[h][b.held], b.memory[b.p.at.value + v],
                 total * b.memory[b.p.at.value_read + v]);
    const int64_t at = (int64_t{b.row} * s.heads + pass.head + h) * s.value_dim + column;
    if (s.dtype == DType::kFloat32) {
      static_cast<float*>(b.operands().out)[at] = total;
    } else {
      static_cast<__nv_bfloat16*>(b.operands().out)[at] = FromFloat<__nv_bfloat16>(total);
    }
  }
}

// A few rows of the thread, the ring and the token folded in.
template <StateType kType>
struct FoldedRows {
  static constexpr int kCount = kFoldNumbers / kPackedNumbers<kType>;
  Unpacked<kType> rows[kCount];
};

// Rows base + first and on, of those in flight.
template <StateType kType>
__device__ FoldedRows<kType> Fold(const ReplayBlock& b, int32_t base, int first,
                                  const StateRows<kType, kFoldRows>& rows) {
  constexpr int kNumbers = kPackedNumbers<kType>;
  constexpr int kRows = FoldedRows<kType>::kCount;
  const int32_t key_dim = b.shape().key_dim;
  FoldedRows<kType> folded;
  int32_t channels[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    // What is behind the last row is made, but not stored.
    channels[r] = min(b.group + (base + first + r) * kReplayGroups, key_dim - 1);
    folded.rows[r] = UnpackNumbers<kType>(rows.raw[first + r]);
    const float decay = b.memory[b.p.at.row_decay + channels[r]];
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) folded.rows[r].v[n] *= decay;
  }
  const float* const lane = b.memory + 4 * b.lane;
  if (b.shape().value_gate) {
#pragma unroll
    for (int n = 0; n < kNumbers; ++n) {
      const int at = n / 4 * 4 * kReplayLanes + n % 4;
      const float decay = lane[b.p.at.value_decay + at];
#pragma unroll
      for (int r = 0; r < kRows; ++r) folded.rows[r].v[n] *= decay;
    }
  }
  for (int32_t j = 0; j <= b.held; ++j) {
    const float* const staged = lane + b.p.at.fold_values + j * kTile<kType>;
    const float* const keys = b.memory + b.p.at.fold_keys + j * key_dim;
    float key[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) key[r] = keys[channels[r]];
#pragma unroll
    for (int n = 0; n < kNumbers; n += 4) {
      const float4 v = LoadQuad(staged + n * kReplayLanes);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float* const x = folded.rows[r].v + n;
        x[0] = fmaf(key[r], v.x, x[0]);
        x[1] = fmaf(key[r], v.y, x[1]);
        x[2] = fmaf(key[r], v.z, x[2]);
        x[3] = fmaf(key[r], v.w, x[3]);
      }
    }
  }
  return folded;
}

// Calls visit(i, x) for rows `base` and on of the thread, the ring and the token folded in: row i's
// numbers x. What is behind V is undefined.
template <StateType kType, typename Visit>
__device__ void VisitFolded(const ReplayBlock& b, int32_t tile, const Visit& visit) {
  constexpr int kRows = FoldedRows<kType>::kCount;
#pragma unroll 1
  for (int32_t base = 0; base < RowsOfThread(b); base += kFoldRows) {
    StateRows<kType, kFoldRows> rows;
    LoadRows(b, ColumnOf<kType>(b, tile), base, rows);
#pragma unroll
    for (int first = 0; first < kFoldRows; first += kRows) {
      if (base + first >= RowsOfThread(b)) continue;
      const FoldedRows<kType> folded = Fold(b, base, first, rows);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (base + first + r < RowsOfThread(b)) visit(base + first + r, folded.rows[r]);
      }
    }
  }
}

// Folds a tile, packs and stores it. What a row of int8 is multiplied by is in `largest`.
template <StateType kType>
__device__ void StoreFolded(const ReplayBlock& b, int32_t tile) {
  const int32_t column = ColumnOf<kType>(b, tile);
  const bool active = column < b.shape().value_dim;
  VisitFolded<kType>(b, tile, [&](int32_t i, const Unpacked<kType>& x) {
    float inverse = 1.0F;
    if (kType == StateType::kInt8) {
      inverse = b.memory[b.p.at.largest + b.group + i * kReplayGroups];
    }
    if (active) *RowAt<kType>(b, column, i) = PackNumbers<kType>(x, inverse);
  });
}

// Folds a tile, and tells all blocks the largest magnitude of each row in this block's tiles so
// far: the lanes of a row one block each.
template <StateType kType>
__device__ void ShareLargest(const ReplayBlock& b, int32_t tile) {
  const bool active = ColumnOf<kType>(b, tile) < b.shape().value_dim;
  float* const largest = b.memory + b.p.at.largest + b.rank * b.shape().key_dim;
  VisitFolded<kType>(b, tile, [&](int32_t i, const Unpacked<kType>& x) {
    float size = 0.0F;
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; ++n) size = fmaxf(size, fabsf(x.v[n]));
    size = active ? size : 0.0F;
#pragma unroll
    for (int offset = 1; offset < kReplayLanes; offset *= 2) {
      size = fmaxf(size, __shfl_xor_sync(kAllLanes, size, offset));
    }
    float* const to = largest + b.group + i * kReplayGroups;
    if (tile != b.rank) size = fmaxf(size, *to);
    __syncwarp();
    if (b.lane < b.p.blocks) *InBlock(to, b.lane) = size;
  });
}

// Turns what the blocks have found into one over the scale of each row, and keeps the scales.
__device__ void MakeScales(const ReplayBlock& b) {
  const int32_t key_dim = b.shape().key_dim;
  float* const largest = b.memory + b.p.at.largest;
  for (int32_t c = threadIdx.x; c < key_dim; c += kReplayThreads) {
    float size = largest[c];
    for (int32_t block = 1; block < b.p.blocks; ++block) {
      size = fmaxf(size, largest[block * key_dim + c]);
    }
    const float scale = ScaleOfRow(size);
    largest[c] = InverseOfScale(scale);
    if (b.rank == 0) b.state().scales[c] = scale;
  }
  __syncthreads();
}

// Folds the block's tiles of the matrix, which the L2 cache still has. A row's scale needs all of
// the row: of int8 a fold is made once to find it, and once more to be stored.
template <StateType kType>
__device__ void FoldState(const ReplayBlock& b) {
  const bool one_tile = b.p.tiles <= b.p.blocks;
  if (kType == StateType::kInt8) {
    for (int32_t tile = b.rank; tile < b.p.tiles; tile += b.p.blocks) {
      StageFold(b, tile);
      ShareLargest<kType>(b, tile);
    }
    SyncCluster(b.p.blocks);
    MakeScales(b);
  }
  for (int32_t tile = b.rank; tile < b.p.tiles; tile += b.p.blocks) {
    if (kType != StateType::kInt8 || !one_tile) StageFold(b, tile);
    StoreFolded<kType>(b, tile);
  }
}

// What the block needs of its head, and its part of the scores, while the first rows are on their
// way. The scores may be read behind AwaitScores.
template <int kHeads>
__device__ void BeginPass(const ReplayBlock& b, const HeadPass& pass, ReplayScores<kHeads>& scores,
                          bool* folds) {
  if (kHeads == 1 || pass.index == 0) {
    *folds = LoadFactors<kHeads>(b, pass);
  } else {
    LoadQueries<kHeads>(b, pass);
  }
  WaitCluster(b.p.blocks);  // All have started, and have read the scores of the pass before.
  ShareScores(b, pass, scores);
  if (pass.is_last) ArriveClusterUnwritten(b.p.blocks);
}

// Grid: (blocks of a cluster, state heads, rows): a cluster owns a state head of a row. Groups of
// query heads share passes over the state. The rows of the next tile are asked for before the
// outputs of this one are stored.
template <StateType kType, int kHeads>
__global__ __launch_bounds__(kReplayThreads, kHeads == 1 ? 4 : 3) void ReplayKernel(
    const __grid_constant__ ReplayParams p) {
  EnterStream();
  extern __shared__ float4 dynamic[];
  __shared__ ReplayScores<kHeads> scores;
  __shared__ __align__(16) float partial[kReplayWarps][kHeads][kTile<kType>];
  // All blocks of the cluster or none.
  if (FillsUp(p.args, blockIdx.z, blockIdx.y, gridDim.x)) return;
  StartScores(scores, p.blocks);
  const ReplayBlock b = MakeReplayBlock(p, reinterpret_cast<float*>(dynamic));
  const int32_t group = kHeads == 1 ? 1 : b.shape().heads / b.shape().kv_heads;
  constexpr int kInFlight = kHeads == 1 ? 16 : 8;
  bool folds = false;
  for (int32_t done = 0; done < group; done += kHeads) {
    const HeadPass pass = {b.kv_head * group + done, min(kHeads, group - done), done / kHeads,
                           done + kHeads >= group};
    StateRows<kType, kInFlight> rows;
    LoadRows(b, ColumnOf<kType>(b, b.rank), 0, rows);
    BeginPass(b, pass, scores, &folds);
#pragma unroll 1
    for (int32_t tile = b.rank; tile < p.tiles; tile += p.blocks) {
      const int32_t column = ColumnOf<kType>(b, tile);
      const Unpacked<kType> values = LoadRing<kType>(b, column, b.group);
      if (tile != b.rank) __syncthreads();  // The tile before it is stored.
      LoadTileValues(b, tile);
      if (tile == b.rank) AwaitScores(b, pass, scores);
      Sums<kType, kHeads> sums = {};
      AddRing(b, column, values, scores, sums);
      AddRows(b, 0, rows, sums);
#pragma unroll 1
      for (int32_t base = kInFlight; base < RowsOfThread(b); base += kInFlight) {
        LoadRows(b, column, base, rows);
        AddRows(b, base, rows, sums);
      }
      if (tile + p.blocks < p.tiles) LoadRows(b, ColumnOf<kType>(b, tile + p.blocks), 0, rows);
      StoreOutput(b, pass, tile, scores, sums, partial);
    }
    if (!pass.is_last) ArriveClusterUnwritten(p.blocks);
  }
  WaitCluster(p.blocks);  // The other blocks have read the ring's sums and the scales.
  if (folds) FoldState<kType>(b);
  if (b.has_ring()) MoveRing(b, folds);
}

ReplayLayout LayOut(const GatedShape& s, int32_t heads, int32_t tile, int32_t blocks) {
  const bool is_int8 = s.state.type == StateType::kInt8;
  const int32_t tokens = std::max(s.state.ring, 1);
  ReplayLayout at = {};
  const auto take = [&](int32_t floats) {
    const int32_t begin = at.end;
    at.end += floats;
    return begin;
  };
  at.sums = take(s.key_dim);
  at.read = take(s.key_dim);
  at.decay = take(s.key_dim);
  at.row_read = is_int8 ? take(s.key_dim) : at.read;
  at.row_decay = is_int8 ? take(s.key_dim) : at.decay;
  at.key = take(s.key_dim);
  at.query = take(heads * s.key_dim);
  at.value = take(tile);
  at.value_read = take(tile);
  at.value_decay = take(tile);
  at.fold_keys = take(tokens * s.key_dim);
  at.fold_values = take(tokens * tile);
  at.largest = take(is_int8 ? blocks * s.key_dim : 0);
  return at;
}

template <StateType kType>
void Launch(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const int32_t tiles = (s.value_dim + kTile<kType> - 1) / kTile<kType>;
  const int32_t most = std::min(LargestCluster(), kMaxCluster);
  const int32_t tiles_of_block = (tiles + most - 1) / most;
  const int32_t blocks = (tiles + tiles_of_block - 1) / tiles_of_block;
  const bool grouped = s.heads != s.kv_heads;
  const ReplayParams params = {
      args,  s.Parts(),    blocks,
      tiles, kTile<kType>, LayOut(s, grouped ? kGroupHeads : 1, kTile<kType>, blocks)};
  const LaunchShape shape = {dim3(blocks, s.kv_heads, args.rows), kReplayThreads,
                             params.at.end * sizeof(float), static_cast<uint32_t>(blocks)};
  constexpr size_t kDeclared = 10 << 10;  // by the kernels, at most
  SLUICE_CHECK(shape.shared_bytes + kDeclared <= LargestSharedBytes());
  if (grouped) {
    LaunchKernel(shape, stream, ReplayKernel<kType, kGroupHeads>, params);
  } else {
    LaunchKernel(shape, stream, ReplayKernel<kType, 1>, params);
  }
}

}  // namespace

void GatedReplayCuda(const GatedStepArgs& args, cudaStream_t stream) {
  switch (args.shape.state.type) {
    case StateType::kFloat32:
      return Launch<StateType::kFloat32>(args, stream);
    case StateType::kFloat16:
      return Launch<StateType::kFloat16>(args, stream);
    case StateType::kInt8:
      return Launch<StateType::kInt8>(args, stream);
  }
}

}  // namespace sluice
