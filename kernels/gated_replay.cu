// A step over states of any format. A cluster of blocks owns a state head of a row, each block
// tiles of 128 bytes of V: whole lines of the matrix. It asks for its part of the matrix before
// anything else, and while that is on its way the cluster makes the scores of the ring.
//
// Bytes of a head, K x V of b bytes, n of L tokens in the ring: K V b read, n (K + V) 4 of the
// ring, K 4 of its sums read and written, (K + V) 4 of the token; in one step of L K V b written
// instead of the token. The sums of the gates and the token's own operands are read by each block.
#include "kernels/gated_replay.cuh"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/gated_replay_cuda.h"

namespace sluice {
namespace {

constexpr int kGroupHeads = 4;    // query heads that share a pass over a state
constexpr int kFoldNumbers = 32;  // that a thread makes at once

template <StateType kType>
constexpr int kTile = kReplayLanes* kPackedNumbers<kType>;

// Query heads of one pass over the state.
struct HeadPass {
  int32_t head;   // the first
  int32_t count;  // 1..kHeads
  bool is_first;
  bool is_last;
};

// A thread's columns of every kReplayGroups-th row.
template <StateType kType, int kHeads>
struct StateRows {
  static constexpr int kCount = kHeads == 1 ? 16 : 8;  // in flight at once
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
  const int64_t row = b.group + i * kReplayGroups;
  const int64_t at = (row * b.shape().value_dim + column) * StateTypeBytes(kType);
  return reinterpret_cast<uint4*>(reinterpret_cast<char*>(b.state.matrix) + at);
}

// Rows `base` and on of the thread; zero where there is none.
template <StateType kType, int kHeads>
__device__ void LoadRows(const ReplayBlock& b, int32_t column, int32_t base,
                         StateRows<kType, kHeads>& rows) {
  const bool active = column < b.shape().value_dim;
#pragma unroll
  for (int i = 0; i < rows.kCount; ++i) {
    rows.raw[i] = active && base + i < RowsOfThread(b) ? *RowAt<kType>(b, column, base + i)
                                                       : make_uint4(0, 0, 0, 0);
  }
}

// Adds what the queries read of these rows.
template <StateType kType, int kHeads>
__device__ void AddRows(const ReplayBlock& b, int32_t base, const StateRows<kType, kHeads>& rows,
                        Sums<kType, kHeads>& sums) {
  const int32_t key_dim = b.shape().key_dim;
#pragma unroll
  for (int i = 0; i < rows.kCount; ++i) {
    if (base + i >= RowsOfThread(b)) continue;
    const int32_t c = b.group + (base + i) * kReplayGroups;
    const Unpacked<kType> x = UnpackNumbers<kType>(rows.raw[i]);
    const float read = b.memory[b.p.at.row_read + c];
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float weight = b.memory[b.p.at.query + h * key_dim + c] * read;
#pragma unroll
      for (int n = 0; n < kPackedNumbers<kType>; ++n) {
        sums.v[h][n] = fmaf(weight, x.v[n], sums.v[h][n]);
      }
    }
  }
}

// Values of token j of the ring in the thread's columns.
template <StateType kType>
__device__ Unpacked<kType> LoadRing(const ReplayBlock& b, int32_t column, int32_t j) {
  Unpacked<kType> x = {};
  if (column >= b.shape().value_dim || j >= b.held) return x;
  const float* const from = b.state.values + int64_t{j} * b.shape().value_dim + column;
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
                        const float (&scores)[kHeads][kMaxStateRing], Sums<kType, kHeads>& sums) {
  for (int32_t j = b.group; j < b.held; j += kReplayGroups) {
    if (j > b.group) values = LoadRing<kType>(b, column, j);
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
#pragma unroll
      for (int n = 0; n < kPackedNumbers<kType>; ++n) {
        sums.v[h][n] = fmaf(scores[h][j], values.v[n], sums.v[h][n]);
      }
    }
  }
}

// Adds the threads' sums in a fixed order and the token's own part, and stores the outputs.
template <StateType kType, int kHeads>
__device__ void StoreOutput(const ReplayBlock& b, const HeadPass& pass, int32_t tile,
                            const float (&scores)[kHeads][kMaxStateRing], Sums<kType, kHeads>& sums,
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
    total = fmaf(scores[h][b.held], b.memory[b.p.at.value + v],
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

// Rows base + kFirst and on, of those in flight.
template <StateType kType, int kHeads>
__device__ FoldedRows<kType> Fold(const ReplayBlock& b, int32_t base, int first,
                                  const StateRows<kType, kHeads>& rows) {
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

// Folds the rows in flight, packs and stores them. What a row of int8 is multiplied by is in
// `largest`.
template <StateType kType, int kHeads>
__device__ void StoreFolded(const ReplayBlock& b, int32_t column, int32_t base,
                            const StateRows<kType, kHeads>& rows) {
  constexpr int kRows = FoldedRows<kType>::kCount;
  const bool active = column < b.shape().value_dim;
#pragma unroll
  for (int first = 0; first < rows.kCount; first += kRows) {
    if (base + first >= RowsOfThread(b)) continue;
    const FoldedRows<kType> folded = Fold(b, base, first, rows);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int32_t i = base + first + r;
      if (!active || i >= RowsOfThread(b)) continue;
      const float inverse =
          kType == StateType::kInt8 ? b.memory[b.p.at.largest + b.group + i * kReplayGroups] : 1.0F;
      *RowAt<kType>(b, column, i) = PackNumbers<kType>(folded.rows[r], inverse);
    }
  }
}

// Folds the rows in flight, and tells all blocks the largest magnitude of each in this block's
// tiles so far: the lanes of a row one block each.
template <StateType kType, int kHeads>
__device__ void ShareLargest(const ReplayBlock& b, int32_t tile, int32_t base,
                             const StateRows<kType, kHeads>& rows) {
  constexpr int kRows = FoldedRows<kType>::kCount;
  const bool active = ColumnOf<kType>(b, tile) < b.shape().value_dim;
  float* const largest = b.memory + b.p.at.largest + b.rank * b.shape().key_dim;
#pragma unroll
  for (int first = 0; first < rows.kCount; first += kRows) {
    if (base + first >= RowsOfThread(b)) continue;
    const FoldedRows<kType> folded = Fold(b, base, first, rows);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int32_t i = base + first + r;
      float size = 0.0F;
#pragma unroll
      for (int n = 0; n < kPackedNumbers<kType>; ++n) {
        size = fmaxf(size, fabsf(folded.rows[r].v[n]));
      }
      size = active ? size : 0.0F;
#pragma unroll
      for (int offset = 1; offset < kReplayLanes; offset *= 2) {
        size = fmaxf(size, __shfl_xor_sync(kAllLanes, size, offset));
      }
      if (i >= RowsOfThread(b)) continue;
      float* const to = largest + b.group + i * kReplayGroups;
      if (tile != b.rank) size = fmaxf(size, *to);
      __syncwarp();
      if (b.lane < b.p.blocks) *InBlock(to, b.lane) = size;
    }
  }
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
    if (b.rank == 0) b.state.scales[c] = scale;
  }
  __syncthreads();
}

// A row's scale needs all of the row: a fold is made once to find it, and once more to be stored.
// `rows` holds all of the block's part of the matrix if that is one tile and few rows.
template <StateType kType, int kHeads>
__device__ void FoldScaled(const ReplayBlock& b, StateRows<kType, kHeads>& rows) {
  const bool one_tile = b.p.tiles <= b.p.blocks;
  const bool resident = one_tile && RowsOfThread(b) <= rows.kCount;
  for (int32_t tile = b.rank; tile < b.p.tiles; tile += b.p.blocks) {
    StageFold(b, tile);
    for (int32_t base = 0; base < RowsOfThread(b); base += rows.kCount) {
      if (!resident) LoadRows(b, ColumnOf<kType>(b, tile), base, rows);
      ShareLargest(b, tile, base, rows);
    }
  }
  SyncCluster(b.p.blocks);
  MakeScales(b);
  for (int32_t tile = b.rank; tile < b.p.tiles; tile += b.p.blocks) {
    if (!one_tile) StageFold(b, tile);
    for (int32_t base = 0; base < RowsOfThread(b); base += rows.kCount) {
      if (!resident) LoadRows(b, ColumnOf<kType>(b, tile), base, rows);
      StoreFolded(b, ColumnOf<kType>(b, tile), base, rows);
    }
  }
}

// The factors and the scores of a pass, which may be read behind the next WaitCluster. Returns
// whether the token ends the ring. All blocks of the cluster have arrived before.
template <int kHeads>
__device__ bool BeginPass(const ReplayBlock& b, const HeadPass& pass, bool folds,
                          float (&scores)[kHeads][kMaxStateRing]) {
  if (!pass.is_first) __syncthreads();
  LoadQueries<kHeads>(b, pass.head, pass.count);
  if (pass.is_first) {
    folds = LoadFactors(b);
  } else {
    __syncthreads();
  }
  WaitCluster(b.p.blocks);  // They have started, and have read the scores of the pass before.
  ShareScores<kHeads>(b, pass.count, scores);
  ArriveCluster(b.p.blocks);
  return folds;
}

// Grid: clusters, a state head of a row each. Groups of query heads share passes over the state;
// the last pass folds.
template <StateType kType, int kHeads>
__global__ __launch_bounds__(kReplayThreads, kHeads == 1 ? 4 : 3) void ReplayKernel(
    const __grid_constant__ ReplayParams p) {
  EnterStream();
  extern __shared__ float4 dynamic[];
  __shared__ float scores[kHeads][kMaxStateRing];
  __shared__ __align__(16) float partial[kReplayWarps][kHeads][kTile<kType>];
  ArriveCluster(p.blocks);
  const ReplayBlock b = MakeReplayBlock(p, reinterpret_cast<float*>(dynamic));
  const int32_t group = b.shape().heads / b.shape().kv_heads;
  StateRows<kType, kHeads> rows;
  bool folds = false;
  for (int32_t done = 0; done < group; done += kHeads) {
    const HeadPass pass = {b.kv_head * group + done, min(kHeads, group - done), done == 0,
                           done + kHeads >= group};
    for (int32_t tile = b.rank; tile < p.tiles; tile += p.blocks) {
      const int32_t column = ColumnOf<kType>(b, tile);
      Sums<kType, kHeads> sums = {};
      for (int32_t base = 0; base < RowsOfThread(b); base += rows.kCount) {
        LoadRows(b, column, base, rows);
        if (base == 0) {  // While the loads are on their way.
          if (tile == b.rank) folds = BeginPass<kHeads>(b, pass, folds, scores);
          if (tile != b.rank) __syncthreads();  // The tile before it is stored.
          LoadTileValues(b, tile);
          const Unpacked<kType> values = LoadRing<kType>(b, column, b.group);
          if (tile == b.rank) WaitCluster(p.blocks);
          AddRing(b, column, values, scores, sums);
        }
        AddRows(b, base, rows, sums);
        if (kType == StateType::kInt8 || !folds || !pass.is_last) continue;
        if (base == 0) StageFold(b, tile);
        StoreFolded(b, column, base, rows);
      }
      StoreOutput(b, pass, tile, scores, sums, partial);
    }
    if (!pass.is_last) ArriveCluster(p.blocks);
  }
  if (kType == StateType::kInt8 && folds) FoldScaled(b, rows);
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
  const ReplayParams params = {args, blocks, tiles, kTile<kType>,
                               LayOut(s, grouped ? kGroupHeads : 1, kTile<kType>, blocks)};
  const int64_t count = int64_t{args.rows} * s.kv_heads * blocks;
  SLUICE_CHECK(count <= INT32_MAX);
  const LaunchShape shape = {static_cast<unsigned>(count), kReplayThreads,
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
