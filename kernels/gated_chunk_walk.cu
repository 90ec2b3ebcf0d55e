// The chunkwise form in bfloat16 with its state on the chip, by warpgroup products and the copy
// engine: compute capability 9.0 (sm_90a), for one query head a state head, K <= 256, and values
// without gates of their own.
//
// A block walks the chunks of a part of a segment with 64 or 128 columns of one state, float32 in
// registers, transposed: a warpgroup 64 columns of V by all K. Of a chunk it multiplies
//
//   O^T  = S^T q~^T + V^T A^T        S^T = S^T * decay + V^T k~
//
// where q~, k~ and A come as images from the first kernel, so that only v is read and o written
// besides. Where heads and sequences are too few to fill the GPU, segments are cut into parts, one
// a block of a cluster. All but the last find first what their chunks add to a state of zeros,
// without outputs. Then each takes the state before it out of its own shared memory, where the
// block before has put it, and gives the next what it makes of it: number by number, so that the
// whole chain takes little longer than one hand-over. Nothing of that goes through memory.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), section 3 (FlashLinearAttention, without
// materialisation).
#include <algorithm>
#include <cstdint>

#include "kernels/cluster.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/gated_chunk_bf16.cuh"
#include "kernels/mma.cuh"
#include "kernels/reduce.cuh"
#include "kernels/ring.cuh"
#include "kernels/wgmma.cuh"

namespace sluice {
namespace {

constexpr int kGroupV = 64;  // columns of V of a warpgroup

enum class Walk : uint8_t {
  kStates,   // from zero: what the part adds to the state, and its decay
  kOutputs,  // from the state before the part: outputs, and the state after it
};

// What a chunk adds to a block's state. kImages: of 64 channels of K.
template <int kImages, int kGroups>
struct alignas(1024) UpdateStage {
  static constexpr int kPitch = kGroups * kGroupV + kPack;  // no bank conflicts

  unsigned char key[kImages][kImageBytes];
  float decay[kImages * kImageColumns];
  float value_weight[kChunk];  // where a row has one decay
  Bf16 value[kChunk][kPitch];  // then a warpgroup's outputs
};

// What it reads of the state and of itself.
template <int kImages>
struct alignas(1024) ReadStage {
  unsigned char query[kImages][kImageBytes];
  unsigned char attention[kImageBytes];
  float query_weight[kChunk];  // where a row has one decay
};
struct NoStage {};

// Threads that copy. Two warpgroups with their states leave registers for a third group only if it
// takes few, and those of whole groups alone can be shared out.
template <int kGroups>
constexpr int kCopyThreads = kGroups == 1 ? kWarp : kWarpgroup;

constexpr int kGroupWarps = kWarpgroup / kWarp;
constexpr int kStatesStages = 4;  // of a walk of states
constexpr int kHandedTiles = 2;   // of a thread's state, that go from block to block at once

template <int kImages, int kGroups>
struct WalkShared {
  using Update = UpdateStage<kImages, kGroups>;
  struct Stage {
    Update update;
    ReadStage<kImages> read;
  };
  // While states are handed on, the first outputs' stage is filled already.
  struct Handing {
    Stage first;
    float4 state[kImages * 8][kGroups * kWarpgroup];  // before the part, as its threads hold it
  };
  // One walk, the handing on and the other walk follow upon another.
  union Stages {
    Update states[kStatesStages];
    Handing handing;
    Stage outputs[2];
  };

  // The turns of the stages, which lie below.
  StageRing<NoStage, kStatesStages> states;
  StageRing<NoStage, 2> updates;
  StageRing<NoStage, 2> reads;
  // That the tiles have come, for each warp; and that the warps have taken them all.
  Barrier handed[kGroups * kGroupWarps][kImages * 8 / kHandedTiles];
  Barrier taken;
  float decay[kImages * kImageColumns];  // of the part
  alignas(1024) Stages stages;
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

// A run of chunks of one segment, all of them or a part.
struct Part {
  int begin;   // first chunk, of the segment's
  int end;     // `begin` if there are more blocks than parts
  int chunks;  // of the segment

  __device__ bool takes() const { return begin > 0 && begin < end; }
  __device__ bool gives() const { return end < chunks; }
};

__device__ Part PartOf(const ChunkParams& p) {
  const Segment& segment = p.args.segments[blockIdx.z];
  const int rank = blockIdx.x % p.parts;
  Part part;
  part.chunks = ChunkCount(segment.position, segment.length);
  const int span = (part.chunks + p.parts - 1) / p.parts;
  part.begin = min(rank * span, part.chunks);
  part.end = min(part.begin + span, part.chunks);
  return part;
}

// Rows [row, row + length) of chunk `index` of a segment; chunks after the first begin on the grid.
struct ChunkRows {
  int row;
  int length;
};
__device__ ChunkRows RowsOf(const Segment& segment, int index) {
  const int skipped = segment.position % kChunk;  // of the first chunk's 64
  const int begin = max(index * kChunk - skipped, 0);
  const int end = min((index + 1) * kChunk - skipped, segment.length);
  return {segment.row + begin, end - begin};
}

// What a block works on.
struct Block {
  int head;
  int value0;   // first column of V
  int columns;  // that there are, at most those of the block
};

template <int kGroups>
__device__ Block BlockOf(const ChunkParams& p) {
  constexpr int kColumns = kGroups * kGroupV;
  const int value0 = static_cast<int>(blockIdx.x) / p.parts * kColumns;
  return {static_cast<int>(blockIdx.y), value0, min(kColumns, p.args.shape.value_dim - value0)};
}

// The turns and the stages of a walk's updates.
template <Walk kWalk, int kImages, int kGroups>
__device__ auto& TurnsOf(WalkShared<kImages, kGroups>& shared) {
  if constexpr (kWalk == Walk::kStates) {
    return shared.states;
  } else {
    return shared.updates;
  }
}
template <Walk kWalk, int kImages, int kGroups>
__device__ auto& UpdateOf(WalkShared<kImages, kGroups>& shared, int index) {
  if constexpr (kWalk == Walk::kStates) {
    return shared.stages.states[index];
  } else {
    return shared.stages.outputs[index].update;
  }
}

// The last threads copy the part's chunks, one after another.
template <ChunkKind kKind, Walk kWalk, int kImages, int kGroups>
__device__ void Produce(const ChunkParams& p, const Part& part, const Block& block,
                        WalkShared<kImages, kGroups>& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const ChunkBuffers& b = p.buffers;
  constexpr bool kRows = kKind == ChunkKind::kRows;
  const Segment segment = p.args.segments[blockIdx.z];
  constexpr int kThreads = kCopyThreads<kGroups>;
  constexpr int kPieces = kGroups * kGroupV / kPack;  // of a row of values, one a thread
  static_assert(kThreads % kPieces == 0 && kChunk * kPieces % kThreads == 0);
  const int thread = static_cast<int>(threadIdx.x) - kGroups * kWarpgroup;
  const int column = thread % kPieces * kPack;
  const bool has_columns = column < block.columns;
  constexpr int kKeyBytes = kImages * kImageBytes;
  constexpr int kDecayBytes = kImages * kImageColumns * 4;
  constexpr int kWeightBytes = kRows ? kChunk * 4 : 0;
  const Bf16* const values = static_cast<const Bf16*>(op.v) + int64_t{block.head} * s.value_dim +
                             block.value0 + (has_columns ? column : 0);
  auto turn = Filling(TurnsOf<kWalk>(shared));
  for (int c = part.begin; c < part.end; ++c) {
    const ChunkRows rows = RowsOf(segment, c);
    const int64_t chunk = segment.first_chunk + c;
    const int64_t head = chunk * s.heads + block.head;
    const int64_t image = chunk * ImageHeads(s) + block.head / (kRows ? s.shared_keys : 1);
    const auto copy = [](void* to, const void* from, int64_t index, int size, Barrier& full) {
      BulkCopy(to, static_cast<const char*>(from) + index * size, size, full);
    };
    if constexpr (kWalk == Walk::kOutputs) {
      if (c == part.begin + 1 && part.takes()) shared.taken.Wait(0);  // Stages after the first.
      shared.reads.empty[turn.index].Wait(turn.parity);
      if (thread == 0) {
        Barrier& full = shared.reads.full[turn.index];
        auto& stage = shared.stages.outputs[turn.index].read;
        full.ArriveExpecting(kKeyBytes + kImageBytes + kWeightBytes);
        copy(stage.query, b.query, image, kKeyBytes, full);
        copy(stage.attention, b.attention, head, kImageBytes, full);
        if (kRows) copy(stage.query_weight, b.query_weight, head, kWeightBytes, full);
      }
    }
    turn.empty().Wait(turn.parity);
    Barrier& full = turn.full();
    auto& stage = UpdateOf<kWalk>(shared, turn.index);
    if (thread == 0) {
      full.ArriveExpecting(kKeyBytes + kDecayBytes + kWeightBytes);
      copy(stage.key, b.key, image, kKeyBytes, full);
      copy(stage.decay, b.decay, head, kDecayBytes, full);
      if (kRows) copy(stage.value_weight, b.value_weight, head, kWeightBytes, full);
    }
#pragma unroll
    for (int n = 0; n < kChunk * kPieces / kThreads; ++n) {
      const int row = (n * kThreads + thread) / kPieces;
      // What is not there is zero, so that it can be multiplied.
      const bool valid = row < rows.length && has_columns;
      const int64_t at = (int64_t{rows.row} + row) * op.v_stride;
      CopyAsync(&stage.value[row][column], values + (valid ? at : 0), valid);
    }
    full.ArriveWithCopies();
    turn.Advance();
  }
}

// A thread's part of a transposed state: 64 columns of V by all channels of K.
template <int kImages>
using StateTile = float[kImages * 8][4];

// Where a warpgroup's columns of a state lie: a matrix [K, V] in a slot.
struct SlotColumns {
  float* first;  // of channel 0
  int channels;
  int columns;  // that there are
  int stride;   // V
};

// Calls visit(number, pointer, whether it is there) for each of the thread's numbers of 8 channels.
template <typename Tile, typename Visit>
__device__ void VisitTile(const SlotColumns& slot, int n, Tile& tile, Visit visit) {
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp % kGroupWarps;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int channel = n * 8 + lane % 4 * 2 + i % 2;
    const int column = warp * kTile + lane / 4 + i / 2 * 8;
    visit(tile[i], slot.first + channel * slot.stride + column,
          channel < slot.channels && column < slot.columns);
  }
}

__device__ void LoadTile(const SlotColumns& slot, int n, float (&tile)[4]) {
  VisitTile(slot, n, tile,
            [&](float& number, const float* from, bool valid) { number = valid ? *from : 0.0F; });
}
// Starts fetching a state into the cache, a channel a thread.
__device__ void FetchState(const SlotColumns& slot) {
  constexpr int kLine = 32;  // numbers
  for (int c = static_cast<int>(threadIdx.x) % kWarpgroup; c < slot.channels; c += kWarpgroup) {
    for (int column = 0; column < slot.columns && column < kGroupV; column += kLine) {
      asm volatile("prefetch.global.L2 [%0];\n" ::"l"(slot.first + c * slot.stride + column));
    }
  }
}

template <int kImages>
__device__ void LoadState(const SlotColumns& slot, StateTile<kImages>& state) {
#pragma unroll
  for (int n = 0; n < kImages * 8; ++n) LoadTile(slot, n, state[n]);
}
template <int kImages>
__device__ void StoreState(const SlotColumns& slot, const StateTile<kImages>& state) {
#pragma unroll
  for (int n = 0; n < kImages * 8; ++n) {
    VisitTile(slot, n, state[n], [&](const float& number, float* to, bool valid) {
      if (valid) *to = number;
    });
  }
}

// Sixteen channels of the state, rounded, as A.
__device__ uint4 Rounded(const float (&low)[4], const float (&high)[4]) {
  return make_uint4(PackWord(low[0], low[1]), PackWord(low[2], low[3]), PackWord(high[0], high[1]),
                    PackWord(high[2], high[3]));
}

// O^T = S^T q~^T. The state is rounded two tiles at a time, behind the products of those before.
template <int kImages>
__device__ void ReadState(const StateTile<kImages>& state, const unsigned char* queries,
                          float (&out)[8][4]) {
  constexpr int kAtOnce = 2;
  uint4 a[2][kAtOnce];
#pragma unroll
  for (int k = 0; k < kImages * 4; k += kAtOnce) {
    uint4(&own)[kAtOnce] = a[k / kAtOnce % 2];
    if (k >= 2 * kAtOnce) WgmmaWait<1>();
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      own[i] = Rounded(state[2 * (k + i)], state[2 * (k + i) + 1]);
    }
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      Wgmma<false>(out, own[i], OfRows(queries, k + i), k + i > 0);
    }
    WgmmaCommit();
  }
}

// Values of 64 rows by the warp's 16 columns, transposed, as A.
__device__ void LoadValues(const Bf16* values, int pitch, int lane, uint4 (&v)[kChunkTiles]) {
#pragma unroll
  for (int row = 0; row < kChunkTiles; ++row) {
    v[row] = LoadAFromColumns(values + row * kTile * pitch, pitch, lane);
  }
}

// Multiplies values by their rows' weights.
__device__ void WeighValues(const float* weights, int lane, uint4 (&v)[kChunkTiles]) {
  const auto weighed = [](uint32_t word, float2 weight) {
    const float2 x = UnpackWord(word);
    return PackWord(x.x * weight.x, x.y * weight.y);
  };
#pragma unroll
  for (int row = 0; row < kChunkTiles; ++row) {
    const float2 low = LoadPair(weights + row * kTile + lane % 4 * 2);
    const float2 high = LoadPair(weights + row * kTile + lane % 4 * 2 + 8);
    v[row] = make_uint4(weighed(v[row].x, low), weighed(v[row].y, low), weighed(v[row].z, high),
                        weighed(v[row].w, high));
  }
}

__device__ void WeighOutputs(const float* weights, int lane, float (&out)[8][4]) {
#pragma unroll
  for (int n = 0; n < 8; ++n) {
    const float2 weight = LoadPair(weights + n * 8 + lane % 4 * 2);
    out[n][0] *= weight.x;
    out[n][1] *= weight.y;
    out[n][2] *= weight.x;
    out[n][3] *= weight.y;
  }
}

template <int kImages>
__device__ void DecayState(const float* decay, int lane, StateTile<kImages>& state) {
#pragma unroll
  for (int n = 0; n < kImages * 8; ++n) {
    const float2 factor = LoadPair(decay + n * 8 + lane % 4 * 2);
    state[n][0] *= factor.x;
    state[n][1] *= factor.y;
    state[n][2] *= factor.x;
    state[n][3] *= factor.y;
  }
}

// Puts a warp's 16 columns of the outputs where its values were, rows again.
__device__ void StageOutputs(const float (&out)[8][4], int pitch, int lane, Bf16* to) {
#pragma unroll
  for (int n = 0; n < 8; n += 2) {
    Bf16* const row = to + ((n + lane / 16) * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};\n" ::"r"(
                     SharedAddress(row)),
                 "r"(PackWord(out[n][0], out[n][1])), "r"(PackWord(out[n][2], out[n][3])),
                 "r"(PackWord(out[n + 1][0], out[n + 1][1])),
                 "r"(PackWord(out[n + 1][2], out[n + 1][3]))
                 : "memory");
  }
}

__device__ void SyncGroup(int group) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(group + 1), "n"(kWarpgroup) : "memory");
}

// Stores a warpgroup's 64 columns of the outputs, 16 bytes a thread.
__device__ void StoreOutputs(const Bf16* from, int pitch, const ChunkRows& rows, int columns,
                             int64_t stride, Bf16* out) {
  const int column = static_cast<int>(threadIdx.x) % 8 * kPack;
  if (column >= columns) return;
  for (int row = static_cast<int>(threadIdx.x) % kWarpgroup / 8; row < rows.length;
       row += kWarpgroup / 8) {
    *reinterpret_cast<uint4*>(out + (int64_t{rows.row} + row) * stride + column) =
        *reinterpret_cast<const uint4*>(from + row * pitch + column);
  }
}

// What a warpgroup reads and writes of its columns of V.
struct GroupColumns {
  int count;      // that there are
  int64_t first;  // of a head
};
__device__ GroupColumns ColumnsOf(const Block& block) {
  const int skipped = static_cast<int>(threadIdx.x) / kWarpgroup * kGroupV;
  return {block.columns - skipped, block.value0 + skipped};
}

// The warpgroup's columns of the state in the segment's slot. Those of two calls are not known to
// be the same: what the compiler would make of them for loads takes no registers until the stores.
__device__ SlotColumns SlotOf(const ChunkParams& p, const Block& block) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const GroupColumns columns = ColumnsOf(block);
  float* const first = op.states + p.args.segments[blockIdx.z].slot * op.slot_stride +
                       int64_t{block.head} * s.key_dim * s.value_dim + columns.first;
  int stride = s.value_dim;
  asm volatile("" : "+r"(stride));
  return {first, s.key_dim, columns.count, stride};
}

// A warpgroup multiplies the part's chunks, one after another. Of a walk of states the thread's own
// channel's decay is returned.
template <ChunkKind kKind, Walk kWalk, int kImages, int kGroups>
__device__ float Consume(const ChunkParams& p, const Part& part, const Block& block,
                         WalkShared<kImages, kGroups>& shared, StateTile<kImages>& state) {
  const GatedShape& s = p.args.shape;
  const int group = threadIdx.x / kWarpgroup;
  const int warp = threadIdx.x / kWarp % kGroupWarps;
  const int lane = threadIdx.x % kWarp;
  [[maybe_unused]] const Segment segment = p.args.segments[blockIdx.z];
  [[maybe_unused]] const GroupColumns columns = ColumnsOf(block);
  [[maybe_unused]] const int64_t stride = int64_t{s.heads} * s.value_dim;
  [[maybe_unused]] Bf16* const out =
      static_cast<Bf16*>(p.args.operands.out) + int64_t{block.head} * s.value_dim + columns.first;
  [[maybe_unused]] float decay = 1.0F;

  auto turn = Draining(TurnsOf<kWalk>(shared));
  constexpr int kPitch = UpdateStage<kImages, kGroups>::kPitch;
  for (int c = part.begin; c < part.end; ++c) {
    auto& stage = UpdateOf<kWalk>(shared, turn.index);
    [[maybe_unused]] const ReadStage<kImages>& reading = shared.stages.outputs[turn.index].read;
    Bf16* const values = &stage.value[0][group * kGroupV + warp * kTile];
    [[maybe_unused]] float sums[8][4];
    uint4 v[kChunkTiles];
    if constexpr (kWalk == Walk::kOutputs) {
      shared.reads.full[turn.index].Wait(turn.parity);
      ReadState<kImages>(state, reading.query[0], sums);
    }
    turn.full().Wait(turn.parity);
    LoadValues(values, kPitch, lane, v);
    if constexpr (kWalk == Walk::kOutputs) {
      if constexpr (kKind == ChunkKind::kRows) {
        WgmmaWait<0>();
        FenceSums(sums);
        WeighOutputs(reading.query_weight, lane, sums);
        FenceSums(sums);
      }
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kChunkTiles; ++k) {
        Wgmma<false>(sums, v[k], OfRows(reading.attention, k), true);
      }
      WgmmaCommit();
    } else {
      static_assert(kImages * kImageColumns <= kGroups * kWarpgroup, "a thread for each channel");
      if (threadIdx.x < kImages * kImageColumns) decay *= stage.decay[threadIdx.x];
    }
    DecayState<kImages>(stage.decay, lane, state);
    if constexpr (kKind == ChunkKind::kRows) {
      if constexpr (kWalk == Walk::kOutputs) WgmmaWait<0>();
      WeighValues(stage.value_weight, lane, v);
    }
    FenceSums(state);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < kChunkTiles; ++k) {
      Wgmma<true>(state, v[k], OfColumns(stage.key[0], k), true);
    }
    WgmmaCommit();
    if constexpr (kWalk == Walk::kOutputs) {
      WgmmaWait<1>();
      FenceSums(sums);
      __syncwarp();  // All lanes have the values: outputs may take their place.
      shared.reads.empty[turn.index].Arrive();
      StageOutputs(sums, kPitch, lane, values);
      SyncGroup(group);
      StoreOutputs(&stage.value[0][group * kGroupV], kPitch, RowsOf(segment, c), columns.count,
                   stride, out);
    }
    WgmmaWait<0>();
    FenceSums(state);
    turn.empty().Arrive();
    turn.Advance();
  }
  return decay;
}

// Takes the state before the part and, if there is a part behind it, gives that one the state after
// it: what is before decayed, and what this part adds, which `state` holds.
template <int kImages, int kGroups>
class HandOn {
 public:
  __device__ HandOn(const ChunkParams& p, const Part& part, WalkShared<kImages, kGroups>& shared,
                    StateTile<kImages>& state)
      : shared_(shared), state_(state), gives_(part.gives()) {
    const int next = static_cast<int>(blockIdx.x) % p.parts + (gives_ ? 1 : 0);
    next_state_ = AddressInBlock(&shared.stages.handing.state[0][threadIdx.x], next);
    next_handed_ = AddressInBlock(&shared.handed[threadIdx.x / kWarp][0], next);
  }

  // Of the first part, from the slot. No block overwrites it before what is made of it has come to
  // the last one.
  __device__ void FromSlot(const SlotColumns& slot) {
    constexpr int kAhead = 8;  // tiles on their way at once
#pragma unroll
    for (int first = 0; first < kImages * 8; first += kAhead) {
      float before[kAhead][4];
#pragma unroll
      for (int n = 0; n < kAhead; ++n) LoadTile(slot, first + n, before[n]);
#pragma unroll
      for (int n = 0; n < kAhead; ++n) {
        Hand(first + n, make_float4(before[n][0], before[n][1], before[n][2], before[n][3]));
      }
    }
  }

  // Of the others, from the block before.
  __device__ void FromBlock() {
#pragma unroll
    for (int n = 0; n < kImages * 8; ++n) {
      if (n % kHandedTiles == 0) shared_.handed[threadIdx.x / kWarp][n / kHandedTiles].Wait(0);
      Hand(n, shared_.stages.handing.state[n][threadIdx.x]);
    }
    FenceStores();
    shared_.taken.Arrive();
  }

 private:
  __device__ void Hand(int n, float4 before) {
    float(&own)[4] = state_[n];
    if (gives_) {
      const float2 decay = LoadPair(&shared_.decay[n * 8 + threadIdx.x % 4 * 2]);
      const float4 after =
          make_float4(fmaf(decay.x, before.x, own[0]), fmaf(decay.y, before.y, own[1]),
                      fmaf(decay.x, before.z, own[2]), fmaf(decay.y, before.w, own[3]));
      constexpr int kStep = kGroups * kWarpgroup * sizeof(float4);
      StoreInBlock(next_state_ + n * kStep, after,
                   next_handed_ + n / kHandedTiles * sizeof(Barrier));
    }
    own[0] = before.x;
    own[1] = before.y;
    own[2] = before.z;
    own[3] = before.w;
  }

  WalkShared<kImages, kGroups>& shared_;
  StateTile<kImages>& state_;
  const bool gives_;
  uint32_t next_state_;
  uint32_t next_handed_;
};

// By all threads, before any copies or multiplies.
template <int kImages, int kGroups>
__device__ void InitBarriers(bool is_cut, WalkShared<kImages, kGroups>& shared) {
  constexpr int kFills = 1 + kCopyThreads<kGroups>;
  constexpr int kUses = kGroups * kWarpgroup;
  constexpr int kHandings = sizeof(shared.handed) / sizeof(Barrier);
  static_assert(kHandings <= kUses, "a thread for each");
  if (threadIdx.x == 0) {
    shared.states.Init(kFills, kUses);
    shared.updates.Init(kFills, kUses);
    shared.reads.Init(1, kUses);
    shared.taken.Init(kUses);
  }
  if (is_cut && threadIdx.x < kHandings) {
    Barrier& handed = (&shared.handed[0][0])[threadIdx.x];
    handed.Init(1);
    handed.ArriveExpecting(kHandedTiles * kWarp * sizeof(float4));
  }
  FenceBarrierInit();
  __syncthreads();
}

// Ends the walk of states for all blocks of the cluster: where their stages were, states may come.
__device__ void LeaveStates(int parts) {
  FenceStores();
  ArriveCluster(parts);
  WaitCluster(parts);
}

template <ChunkKind kKind, int kImages, int kGroups>
__device__ void ProduceAll(const ChunkParams& p, const Part& part, const Block& block,
                           WalkShared<kImages, kGroups>& shared) {
  if (p.parts > 1) {
    if (part.gives()) Produce<kKind, Walk::kStates>(p, part, block, shared);
    LeaveStates(p.parts);
  }
  Produce<kKind, Walk::kOutputs>(p, part, block, shared);
}

template <ChunkKind kKind, int kImages, int kGroups>
__device__ void ConsumeAll(const ChunkParams& p, const Part& part, const Block& block,
                           WalkShared<kImages, kGroups>& shared) {
  StateTile<kImages> state = {};
  if (p.parts > 1) {
    if (part.gives()) {
      if (!part.takes()) FetchState(SlotOf(p, block));
      const float decay = Consume<kKind, Walk::kStates>(p, part, block, shared, state);
      if (threadIdx.x < kImages * kImageColumns) shared.decay[threadIdx.x] = decay;
    }
    LeaveStates(p.parts);
    if (part.begin == part.end) return;
  }
  if (part.takes() || part.gives()) {
    HandOn<kImages, kGroups> hand_on(p, part, shared, state);
    part.takes() ? hand_on.FromBlock() : hand_on.FromSlot(SlotOf(p, block));
  } else {
    LoadState<kImages>(SlotOf(p, block), state);
  }
  Consume<kKind, Walk::kOutputs>(p, part, block, shared, state);
  if (!part.gives()) StoreState<kImages>(SlotOf(p, block), state);
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kGroups>
constexpr int kWalkThreads = kGroups* kWarpgroup + kCopyThreads<kGroups>;

// Grid: (parts x slabs of V, heads, segments); clusters of the parts of a segment. The last threads
// copy, the others multiply, a warpgroup 64 columns of V each. Bound by its products at K = 256,
// and by memory below: images, values in, outputs out. Of parts, also by the way from block to
// block of their states.
template <ChunkKind kKind, int kImages, int kGroups>
__global__ __launch_bounds__(kWalkThreads<kGroups>,
                             1) void WalkKernel(const __grid_constant__ ChunkParams p) {
  AllowNextKernel();
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) unsigned char dynamic[];
  auto& shared = *reinterpret_cast<WalkShared<kImages, kGroups>*>(dynamic);
  InitBarriers(p.parts > 1, shared);
  AwaitEarlierKernels();
  const Part part = PartOf(p);
  const Block block = BlockOf<kGroups>(p);
  if (threadIdx.x >= kGroups * kWarpgroup) {
    if constexpr (kGroups == 2) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;\n");
    ProduceAll<kKind>(p, part, block, shared);
  } else {
    if constexpr (kGroups == 2) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;\n");
    ConsumeAll<kKind>(p, part, block, shared);
  }
#else
  __trap();  // HasWarpgroupProducts says that there are none.
#endif
}

constexpr int kLeastSpan = 2;  // chunks of a part

int SlabsOf(const GatedShape& s, int columns) { return (s.value_dim + columns - 1) / columns; }

// Blocks of `columns` columns, if no segment is cut.
int64_t BlocksOf(const ChunkParams& params, int columns) {
  const GatedShape& s = params.args.shape;
  return int64_t{SlabsOf(s, columns)} * s.heads * params.args.segment_count;
}

// Parts that would fill the GPU, a block a multiprocessor, at most params.parts. Segments are cut
// where whole ones would leave half of it without work.
int PartsOf(const ChunkParams& params, int columns) {
  const int64_t at_once = MultiprocessorCount() / BlocksOf(params, columns);
  const int longest = params.args.chunk_count - params.args.segment_count + 1;  // at most
  const int most = std::min(params.parts, (longest + kLeastSpan - 1) / kLeastSpan);
  return static_cast<int>(std::clamp<int64_t>(at_once, 1, std::max(1, most)));
}

template <ChunkKind kKind, int kImages, int kGroups>
LaunchShape ShapeOf(const ChunkParams& params, int parts) {
  using Shared = WalkShared<kImages, kGroups>;
  static_assert(sizeof(Shared) <= 227 << 10, "fits on an H100");
  constexpr size_t kBytes = sizeof(Shared) - sizeof(typename Shared::Stages);
  constexpr size_t kWhole = kBytes + sizeof(Shared::Stages::outputs);  // if no segment is cut
  const GatedShape& s = params.args.shape;
  const int slabs = SlabsOf(s, kGroups * kGroupV);
  return {dim3(parts * slabs, s.heads, params.args.segment_count), kWalkThreads<kGroups>,
          parts > 1 ? sizeof(Shared) : kWhole, static_cast<uint32_t>(parts)};
}

// Fewer parts than PartsOf if not all clusters of theirs find a place at once: then two waves of
// them would take longer than longer parts.
template <ChunkKind kKind, int kImages, int kGroups>
void LaunchWalk(ChunkParams params, cudaStream_t stream) {
  constexpr auto kKernel = WalkKernel<kKind, kImages, kGroups>;
  static const ClusterRoom room(reinterpret_cast<const void*>(kKernel),
                                ShapeOf<kKind, kImages, kGroups>(params, 2));
  int parts = PartsOf(params, kGroups * kGroupV);
  const int64_t clusters = BlocksOf(params, kGroups * kGroupV);
  while (parts > 1 && room.Of(parts) < clusters) --parts;
  params.parts = parts;
  LaunchKernel(ShapeOf<kKind, kImages, kGroups>(params, parts), stream, kKernel, params);
}

// Blocks of 64 columns if those of 128 would leave half of the GPU without work.
template <ChunkKind kKind, int kImages>
void ChooseColumns(const ChunkParams& params, cudaStream_t stream) {
  const int64_t blocks = BlocksOf(params, 2 * kGroupV) * PartsOf(params, 2 * kGroupV);
  if (params.args.shape.value_dim <= kGroupV || 2 * blocks <= MultiprocessorCount()) {
    LaunchWalk<kKind, kImages, 1>(params, stream);
  } else {
    LaunchWalk<kKind, kImages, 2>(params, stream);
  }
}

template <ChunkKind kKind>
void ChooseWalk(const ChunkParams& params, cudaStream_t stream) {
  switch (ImagesOf(params.args.shape.key_dim)) {
    case 4:
      return LaunchWalk<kKind, 4, 2>(params, stream);
    case 2:
      return ChooseColumns<kKind, 2>(params, stream);
    default:
      return ChooseColumns<kKind, 1>(params, stream);
  }
}

}  // namespace

void WalkBFloat16(const ChunkParams& params, cudaStream_t stream) {
  if (ChunkKindOf(params.args.shape) == ChunkKind::kRows) {
    ChooseWalk<ChunkKind::kRows>(params, stream);
  } else {
    ChooseWalk<ChunkKind::kChannels>(params, stream);
  }
}

}  // namespace sluice
