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
// besides. Where heads and sequences are too few to fill the GPU, segments are cut into parts:
// the states before them are found first, by a walk of each part from zero that leaves the outputs
// out, and a sum over the parts.
//
// Source: Yang et al. 2023 (arXiv 2312.06635), section 3 (FlashLinearAttention, without
// materialisation).
#include <algorithm>
#include <type_traits>

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
  kOutputs,  // from the state before the part; writes outputs, and the state after the last part
  kStates,   // from zero, or the slot's state; writes the state after the part, and its decay
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

template <Walk kWalk, int kImages, int kGroups>
struct WalkShared {
  static constexpr bool kReads = kWalk == Walk::kOutputs;

  StageRing<UpdateStage<kImages, kGroups>, kReads ? 2 : 4> updates;
  StageRing<std::conditional_t<kReads, ReadStage<kImages>, NoStage>, 2> reads;
};

// Slots for the parts of segment i begin at first_chunk / span + i: no two segments share one.
__device__ int FirstPartSlot(const ChunkParams& p, int segment) {
  return p.args.segments[segment].first_chunk / p.parts.span + segment;
}

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

constexpr int kGroupWarps = kWarpgroup / kWarp;

// A run of chunks of one segment, all of them or a part.
struct Part {
  int segment;
  int index;  // in the segment
  int begin;  // first chunk, of the segment's
  int end;
  int chunks;  // of the segment
};

// The part of a slot; without chunks if the slot has none.
__device__ Part PartOf(const ChunkParams& p, int slot) {
  int low = 0;
  int high = p.args.segment_count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (FirstPartSlot(p, middle) <= slot) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  const Segment& segment = p.args.segments[low];
  Part part;
  part.segment = low;
  part.index = slot - FirstPartSlot(p, low);
  part.chunks = ChunkCount(segment.position, segment.length);
  part.begin = min(part.index * p.parts.span, part.chunks);
  part.end = min(part.begin + p.parts.span, part.chunks);
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
__device__ Block BlockOf(const GatedShape& s) {
  constexpr int kColumns = kGroups * kGroupV;
  const int value0 = blockIdx.x * kColumns;
  return {static_cast<int>(blockIdx.y), value0, min(kColumns, s.value_dim - value0)};
}

// The last threads copy the part's chunks, one after another.
template <ChunkKind kKind, Walk kWalk, int kImages, int kGroups>
__device__ void Produce(const ChunkParams& p, const Part& part, const Block& block,
                        WalkShared<kWalk, kImages, kGroups>& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const ChunkBuffers& b = p.buffers;
  constexpr bool kRows = kKind == ChunkKind::kRows;
  const Segment segment = p.args.segments[part.segment];
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
  auto read = Filling(shared.reads);
  auto update = Filling(shared.updates);
  for (int c = part.begin; c < part.end; ++c) {
    const ChunkRows rows = RowsOf(segment, c);
    const int64_t chunk = segment.first_chunk + c;
    const int64_t head = chunk * s.heads + block.head;
    const int64_t image = chunk * ImageHeads(s) + block.head / (kRows ? s.shared_keys : 1);
    const auto copy = [](void* to, const void* from, int64_t index, int size, Barrier& full) {
      BulkCopy(to, static_cast<const char*>(from) + index * size, size, full);
    };
    if constexpr (kWalk == Walk::kOutputs) {
      read.empty().Wait(read.parity);
      if (thread == 0) {
        Barrier& full = read.full();
        auto& stage = read.stage();
        full.ArriveExpecting(kKeyBytes + kImageBytes + kWeightBytes);
        copy(stage.query, b.query, image, kKeyBytes, full);
        copy(stage.attention, b.attention, head, kImageBytes, full);
        if (kRows) copy(stage.query_weight, b.query_weight, head, kWeightBytes, full);
      }
      read.Advance();
    }
    update.empty().Wait(update.parity);
    Barrier& full = update.full();
    auto& stage = update.stage();
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
    update.Advance();
  }
}

// A thread's part of a transposed state: 64 columns of V by all channels of K.
template <int kImages>
using StateTile = float[kImages * 8][4];

// Calls visit(number, channel, column) for each of the thread's numbers.
template <int kImages, typename Visit>
__device__ void ForEachState(StateTile<kImages>& state, Visit visit) {
  const int lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp % kGroupWarps;
#pragma unroll
  for (int n = 0; n < kImages * 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      visit(state[n][i], n * 8 + lane % 4 * 2 + i % 2, warp * kTile + lane / 4 + i / 2 * 8);
    }
  }
}

// The state before a part, of the slot if it is the first; or zero.
template <int kImages>
__device__ void LoadState(const GatedShape& s, const float* from, int columns,
                          StateTile<kImages>& state) {
  ForEachState<kImages>(state, [&](float& number, int channel, int column) {
    const bool valid = from != nullptr && channel < s.key_dim && column < columns;
    number = valid ? from[int64_t{channel} * s.value_dim + column] : 0.0F;
  });
}
template <int kImages>
__device__ void StoreState(const GatedShape& s, float* to, int columns, StateTile<kImages>& state) {
  ForEachState<kImages>(state, [&](float& number, int channel, int column) {
    if (channel >= s.key_dim || column >= columns) return;
    to[int64_t{channel} * s.value_dim + column] = number;
  });
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

// A warpgroup multiplies the part's chunks, one after another.
template <ChunkKind kKind, Walk kWalk, int kImages, int kGroups>
__device__ void Consume(const ChunkParams& p, const Part& part, const Block& block, int slot,
                        WalkShared<kWalk, kImages, kGroups>& shared) {
  const GatedShape& s = p.args.shape;
  const GatedOperands& op = p.args.operands;
  const Segment segment = p.args.segments[part.segment];
  const int group = threadIdx.x / kWarpgroup;
  const int warp = threadIdx.x / kWarp % kGroupWarps;
  const int lane = threadIdx.x % kWarp;
  const int columns = block.columns - group * kGroupV;  // that there are
  const int64_t column = block.value0 + group * kGroupV;
  const int64_t matrix = int64_t{s.key_dim} * s.value_dim;
  float* const in_slot = op.states + segment.slot * op.slot_stride + block.head * matrix + column;
  const auto in_parts = [&](int part_slot) {
    return p.parts.state + (int64_t{part_slot} * s.heads + block.head) * matrix + column;
  };
  const int64_t stride = int64_t{s.heads} * s.value_dim;
  Bf16* const out = static_cast<Bf16*>(op.out) + int64_t{block.head} * s.value_dim + column;

  StateTile<kImages> state;
  // The state before a segment that is cut waits in the place of its last part, which no walk of
  // states fills: the last part's block overwrites the slot while the first's may still read.
  const int last = slot - part.index + (part.chunks - 1) / p.parts.span;
  const bool is_first = part.index == 0;
  const float* before = nullptr;
  if (is_first && (kWalk == Walk::kStates || part.end == part.chunks)) {
    before = in_slot;
  } else if (kWalk == Walk::kOutputs) {
    before = in_parts(is_first ? last : slot - 1);
  }
  LoadState<kImages>(s, before, columns, state);
  if constexpr (kWalk == Walk::kStates) {
    if (is_first) StoreState<kImages>(s, in_parts(last), columns, state);
  }
  [[maybe_unused]] float decay = 1.0F;  // of the thread's own channel over the part

  auto read = Draining(shared.reads);
  auto update = Draining(shared.updates);
  constexpr int kPitch = UpdateStage<kImages, kGroups>::kPitch;
  for (int c = part.begin; c < part.end; ++c) {
    auto& stage = update.stage();
    Bf16* const values = &stage.value[0][group * kGroupV + warp * kTile];
    [[maybe_unused]] float sums[8][4];
    uint4 v[kChunkTiles];
    if constexpr (kWalk == Walk::kOutputs) {
      read.full().Wait(read.parity);
      ReadState<kImages>(state, read.stage().query[0], sums);
    }
    update.full().Wait(update.parity);
    LoadValues(values, kPitch, lane, v);
    if constexpr (kWalk == Walk::kOutputs) {
      if constexpr (kKind == ChunkKind::kRows) {
        WgmmaWait<0>();
        FenceSums(sums);
        WeighOutputs(read.stage().query_weight, lane, sums);
        FenceSums(sums);
      }
      WgmmaFence();
#pragma unroll
      for (int k = 0; k < kChunkTiles; ++k) {
        Wgmma<false>(sums, v[k], OfRows(read.stage().attention, k), true);
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
      read.empty().Arrive();
      read.Advance();
      StageOutputs(sums, kPitch, lane, values);
      SyncGroup(group);
      StoreOutputs(&stage.value[0][group * kGroupV], kPitch, RowsOf(segment, c), columns, stride,
                   out);
    }
    WgmmaWait<0>();
    FenceSums(state);
    update.empty().Arrive();
    update.Advance();
  }
  if constexpr (kWalk == Walk::kOutputs) {
    if (part.end == part.chunks) StoreState<kImages>(s, in_slot, columns, state);
  } else {
    StoreState<kImages>(s, in_parts(slot), columns, state);
    const int channel = threadIdx.x;
    if (blockIdx.x == 0 && channel < s.key_dim) {
      p.parts.decay[(int64_t{slot} * s.heads + block.head) * s.key_dim + channel] = decay;
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kGroups>
constexpr int kWalkThreads = kGroups* kWarpgroup + kCopyThreads<kGroups>;

// Grid: (slabs of V, heads, slots of parts). The last threads copy, the others multiply, a
// warpgroup 64 columns of V each. Bound by its products at K = 256, and by memory below: images,
// values in, outputs out.
template <ChunkKind kKind, Walk kWalk, int kImages, int kGroups>
__global__ __launch_bounds__(kWalkThreads<kGroups>,
                             1) void WalkKernel(const __grid_constant__ ChunkParams p) {
  EnterStream();
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ __align__(1024) unsigned char dynamic[];
  auto& shared = *reinterpret_cast<WalkShared<kWalk, kImages, kGroups>*>(dynamic);
  const int slot = blockIdx.z;
  const Part part = PartOf(p, slot);
  if (part.begin == part.end) return;
  // The state after a segment's last part is the other walk's.
  if (kWalk == Walk::kStates && part.end == part.chunks) return;
  const Block block = BlockOf<kGroups>(p.args.shape);
  if (threadIdx.x == 0) {
    shared.updates.Init(1 + kCopyThreads<kGroups>, kGroups * kWarpgroup);
    shared.reads.Init(1, kGroups * kWarpgroup);
    FenceBarrierInit();
  }
  __syncthreads();
  if (threadIdx.x >= kGroups * kWarpgroup) {
    if constexpr (kGroups == 2) asm volatile("setmaxnreg.dec.sync.aligned.u32 40;\n");
    Produce<kKind, kWalk>(p, part, block, shared);
  } else {
    if constexpr (kGroups == 2) asm volatile("setmaxnreg.inc.sync.aligned.u32 232;\n");
    Consume<kKind, kWalk>(p, part, block, slot, shared);
  }
#else
  __trap();  // HasChunkWalks says that there are none.
#endif
}

constexpr int kSumThreads = 256;

// Turns the states of a segment's parts, each from zero but the first, into the states after them.
// Grid: (blocks of the matrix, heads, segments).
__global__ __launch_bounds__(kSumThreads) void SumPartsKernel(
    const __grid_constant__ ChunkParams p) {
  EnterStream();
  const GatedShape& s = p.args.shape;
  const Segment& segment = p.args.segments[blockIdx.z];
  const int parts =
      (ChunkCount(segment.position, segment.length) + p.parts.span - 1) / p.parts.span;
  const int64_t matrix = int64_t{s.key_dim} * s.value_dim;
  const int64_t at = (int64_t{blockIdx.x} * kSumThreads + threadIdx.x) * 4;
  if (at >= matrix || parts <= 2) return;
  const int64_t first = FirstPartSlot(p, blockIdx.z);
  const auto channel = static_cast<int>(at / s.value_dim);
  constexpr int kAhead = 8;  // parts on their way at once
  float4 sum = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
  for (int begin = 0; begin + 1 < parts; begin += kAhead) {
    float4 own[kAhead];
    float decay[kAhead];
    const auto index = [&](int i) { return (first + begin + i) * s.heads + blockIdx.y; };
    const auto state = [&](int i) {
      return reinterpret_cast<float4*>(p.parts.state + index(i) * matrix + at);
    };
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i + 1 >= parts) continue;
      own[i] = *state(i);
      decay[i] = p.parts.decay[index(i) * s.key_dim + channel];
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (begin + i + 1 >= parts) continue;
      sum = make_float4(fmaf(decay[i], sum.x, own[i].x), fmaf(decay[i], sum.y, own[i].y),
                        fmaf(decay[i], sum.z, own[i].z), fmaf(decay[i], sum.w, own[i].w));
      if (begin + i > 0) *state(i) = sum;
    }
  }
}

template <ChunkKind kKind, Walk kWalk, int kImages, int kGroups>
void LaunchWalk(const ChunkParams& params, cudaStream_t stream) {
  constexpr auto kKernel = WalkKernel<kKind, kWalk, kImages, kGroups>;
  constexpr int kBytes = sizeof(WalkShared<kWalk, kImages, kGroups>);
  static_assert(kBytes <= 227 << 10, "fits on an H100");
  constexpr int kColumns = kGroups * kGroupV;
  static_assert(kColumns <= kWalkColumns);
  const GatedShape& s = params.args.shape;
  const int slabs = (s.value_dim + kColumns - 1) / kColumns;
  LaunchKernel({dim3(slabs, s.heads, params.parts.slots), kWalkThreads<kGroups>, kBytes}, stream,
               kKernel, params);
}

template <ChunkKind kKind, int kImages, int kGroups>
void LaunchWalks(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  if (params.parts.state != nullptr) {
    LaunchWalk<kKind, Walk::kStates, kImages, kGroups>(params, stream);
    const int64_t quads = int64_t{s.key_dim} * s.value_dim / 4;
    const dim3 blocks((quads + kSumThreads - 1) / kSumThreads, s.heads, params.args.segment_count);
    LaunchKernel({blocks, kSumThreads}, stream, SumPartsKernel, params);
  }
  LaunchWalk<kKind, Walk::kOutputs, kImages, kGroups>(params, stream);
}

template <ChunkKind kKind>
void ChooseWalks(const ChunkParams& params, cudaStream_t stream) {
  const GatedShape& s = params.args.shape;
  const int images = ImagesOf(s.key_dim);
  if (images == 4) {
    LaunchWalks<kKind, 4, 2>(params, stream);
  } else if (images == 2) {
    s.value_dim <= kGroupV ? LaunchWalks<kKind, 2, 1>(params, stream)
                           : LaunchWalks<kKind, 2, 2>(params, stream);
  } else {
    s.value_dim <= kGroupV ? LaunchWalks<kKind, 1, 1>(params, stream)
                           : LaunchWalks<kKind, 1, 2>(params, stream);
  }
}

}  // namespace

void WalkBFloat16(const ChunkParams& params, cudaStream_t stream) {
  if (ChunkKindOf(params.args.shape) == ChunkKind::kRows) {
    ChooseWalks<ChunkKind::kRows>(params, stream);
  } else {
    ChooseWalks<ChunkKind::kChannels>(params, stream);
  }
}

bool HasChunkWalks() {
#ifdef SLUICE_HAS_SM90A
  int device = 0;
  int major = 0;
  int minor = 0;
  SLUICE_CUDA_CHECK(cudaGetDevice(&device));
  SLUICE_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  SLUICE_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  return major == 9 && minor == 0;
#else
  return false;
#endif
}

}  // namespace sluice
