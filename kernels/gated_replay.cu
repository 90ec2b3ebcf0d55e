// A step over states of any format. A block owns state heads of rows, one after the other, and
// walks along their matrices' rows: a warp fetches them in stages, another one the operands and the
// ring, and the others compute. In the token that ends a ring they fold the stages as they come and
// store them: nothing is read twice. Where there are fewer heads than multiprocessors a cluster of
// blocks shares one, each some rows of the matrix.
//
// Bytes of a head, K x V of b bytes, n of L tokens in the ring: K V b read, n (K + V) 4 of the
// ring, K 4 of its sums read and written, (K + V) 4 of the token; in one step of L K V b written
// instead of the token. Each block of a cluster reads the ring and the sums.
//
// K is summed in slices, whose sums are added in their order: any number of blocks gives the same
// bits.
#include "kernels/gated_replay.cuh"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cuda_ops.h"
#include "kernels/gated_replay_cuda.h"
#include "kernels/gated_replay_feed.cuh"
#include "kernels/gated_replay_fold.cuh"
#include "kernels/gated_replay_head.cuh"
#include "kernels/gated_replay_read.cuh"

namespace sluice {
namespace {

constexpr int kGroupHeads = 4;    // query heads that share a pass over a state
constexpr int kBlocksAtOnce = 2;  // of a multiprocessor: one walks while the other one begins

// A pass over the block's rows: what the queries read there is stored slice by slice. One that
// folds stores it stage by stage, since folding needs the registers.
template <bool kFolds, StateType kType, int kHeads>
__device__ void WalkRows(const ReplayWork<kHeads>& w, ReplayPlace& place,
                         StateReader<kType, kHeads>& reader) {
  const ReplayParams& p = w.p;
  const ReplaySpan span = SpanOfBlock(p);
  const int32_t slice_rows = p.args.shape.key_dim / p.slices;
  const auto* const stages = reinterpret_cast<const char*>(w.memory + p.at.stages);
  int32_t slice = 0;
  int32_t slice_begin = span.begin;
#pragma unroll 1
  for (int32_t first = span.begin; first < span.end; first += p.stage_rows) {
    const int32_t rows = min(p.stage_rows, span.end - first);
    const bool ends_slice = first + rows >= slice_begin + slice_rows;
    const char* const stage = stages + place.stage * p.stage_rows * p.pitch;
    w.shared.full[place.stage].Wait(place.parity);
    reader.Add(w, stage, first, rows);
    if (kFolds || ends_slice) {
      reader.Store(w, slice, kFolds && first != slice_begin);
      reader.Clear();
    }
    if (kFolds) FoldStage<kType>(w, stage, first, rows);
    w.shared.empty[place.stage].Arrive();
    place.Advance(p.stages);
    if (!ends_slice) continue;
    ++slice;
    slice_begin += slice_rows;
  }
}

// Columns of V whose outputs the block stores.
struct ReplayColumns {
  int32_t begin;
  int32_t count;
};
__device__ ReplayColumns ColumnsOfBlock(const ReplayParams& p) {
  const int32_t value_dim = p.args.shape.value_dim;
  const int32_t rank = static_cast<int32_t>(blockIdx.x) % p.blocks;
  const int32_t begin = value_dim * rank / p.blocks;
  return {begin, value_dim * (rank + 1) / p.blocks - begin};
}

// What head `h` of the pass reads of the matrix in a column: its sums over slices and groups of
// threads, in their order.
template <int kHeads>
__device__ float MatrixAt(const ReplayWork<kHeads>& w, int h, int32_t column) {
  const ReplayParams& p = w.p;
  const int32_t of_block = p.slices / p.blocks;
  float x[kReplaySlices];
  float sum = 0.0F;
#pragma unroll 1
  for (int32_t group = 0; group < p.sum_groups; ++group) {
#pragma unroll
    for (int slice = 0; slice < kReplaySlices; ++slice) {
      if (slice >= p.slices) break;
      float* const at = PartialAt(w, slice % of_block, h, group) + column;
      x[slice] = p.blocks == 1 ? *at : *InBlock(at, slice / of_block);
    }
#pragma unroll
    for (int slice = 0; slice < kReplaySlices; ++slice) {
      if (slice < p.slices) sum += x[slice];
    }
  }
  return sum;
}

// Adds up what was read of the matrix, the ring and the token, and stores the outputs of a pass.
template <int kHeads>
__device__ void StoreOutputs(const ReplayWork<kHeads>& w, const HeadPass& pass) {
  const ReplayParams& p = w.p;
  const GatedShape& s = w.shape();
  if (p.blocks == 1) {
    MeetReaders();
  } else {
    SyncCluster(p.blocks);
  }
  const ReplayColumns columns = ColumnsOfBlock(p);
  for (int32_t i = threadIdx.x; i < columns.count * pass.count; i += kReplayReaders) {
    const int32_t h = i / columns.count;
    const int32_t column = columns.begin + i % columns.count;
    const float out = OutputAt(w, h, column, MatrixAt(w, h, column));
    const int64_t head = int64_t{w.row} * s.heads + pass.head + h;
    const int64_t at = head * s.value_dim + column;
    if (s.dtype == DType::kFloat32) {
      static_cast<float*>(w.operands().out)[at] = out;
    } else {
      static_cast<__nv_bfloat16*>(w.operands().out)[at] = FromFloat<__nv_bfloat16>(out);
    }
  }
  if (p.blocks > 1) ArriveClusterUnwritten(p.blocks);
  MeetReaders();  // Before the sums, the scores and the factors are others.
}

// One state head of a row.
template <StateType kType, int kHeads>
__device__ void ReadHead(const ReplayWork<kHeads>& w, ReplayPlace& place,
                         StateReader<kType, kHeads> reader) {
  const GatedShape& s = w.shape();
  const int32_t group = kHeads == 1 ? 1 : s.heads / s.kv_heads;
  bool folds = false;
  for (int32_t done = 0; done < group; done += kHeads) {
    const HeadPass pass = {w.kv_head * group + done, min(kHeads, group - done), done == 0,
                           done + kHeads >= group};
    if (pass.is_first) {
      folds = MakeFactors(w, pass);
    } else {
      MakeQueries(w, pass);
    }
    reader.Begin(w);
    reader.Clear();
    MakeScores(w, pass);
    MeetReaders();
    if (folds && pass.is_last) {
      WalkRows<true>(w, place, reader);
    } else {
      WalkRows<false>(w, place, reader);
    }
    StoreOutputs(w, pass);
  }
  const bool owns_ring = static_cast<int32_t>(blockIdx.x) % w.p.blocks == 0;
  if (w.has_ring() && owns_ring) MoveRing(w, folds);
  // The other blocks have read this one's sums.
  if (w.p.blocks > 1) WaitCluster(w.p.blocks);
}

// The threads that compute.
template <StateType kType, int kHeads>
__device__ void ReadHeads(const ReplayParams& p, ReplayShared<kHeads>& shared, float* memory) {
  const auto thread = static_cast<int32_t>(threadIdx.x);
  ReplayPlace place = {.parity = 0};
  int parity = 0;
  VisitItems(p, [&](int32_t row, int32_t kv_head) {
    shared.copy_full.Wait(parity);
    parity ^= 1;
    if (shared.item.slot == p.args.sink) {
      ZeroOutputs(p.args, row, kv_head, thread, kReplayReaders);
    } else {
      ReadHead(
          ReplayWork<kHeads>{p, shared, memory, row, kv_head, thread % p.lanes, thread / p.lanes},
          place, StateReader<kType, kHeads>());
    }
    shared.copy_empty.Arrive();
  });
}

// Grid: as many blocks as the GPU runs at once, or a cluster of blocks a state head and row.
template <StateType kType, int kHeads>
__global__ __launch_bounds__(kReplayThreads, kBlocksAtOnce) void ReplayKernel(
    const __grid_constant__ ReplayParams p) {
  EnterStream();
  extern __shared__ float4 dynamic[];
  __shared__ ReplayShared<kHeads> shared;
  auto* const memory = reinterpret_cast<float*>(dynamic);
  if (threadIdx.x == 0) {
    for (int32_t i = 0; i < p.stages; ++i) {
      shared.full[i].Init(kFetchArrivals);
      shared.empty[i].Init(kReplayReaders);
    }
    shared.copy_full.Init(kFetchArrivals + 1);
    shared.copy_empty.Init(kReplayReaders);
    shared.began.Init(1);
#if __CUDA_ARCH__ >= 900
    FenceBarrierInit();
#endif
  }
  __syncthreads();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  if (warp < kReplayWarps) {
    ReadHeads<kType>(p, shared, memory);
  } else if (warp == kReplayWarps) {
    FeedMatrix(p, shared, memory);
  } else {
    FeedHeads(p, shared, memory);
  }
}

// The largest power of two up to `most` of which `accepts` is true; of 1 it is not asked.
template <typename Accepts>
int32_t LargestPower(int32_t most, const Accepts& accepts) {
  int32_t power = 1;
  while (2 * power <= most && accepts(2 * power)) power *= 2;
  return power;
}

// Gives out places, in floats.
struct Places {
  int32_t end = 0;

  int32_t Take(int32_t floats) {
    const int32_t begin = end;
    end += (floats + 3) / 4 * 4;
    return begin;
  }
};

// Everything but the copy of a head and the stages.
ReplayLayout LayOutFactors(const ReplayParams& p, int32_t heads) {
  const GatedShape& s = p.args.shape;
  const bool is_int8 = s.state.type == StateType::kInt8;
  Places places;
  ReplayLayout at = {};
  at.sums = places.Take(s.key_dim);
  at.read = places.Take(s.key_dim);
  at.decay = places.Take(s.key_dim);
  at.row_decay = is_int8 ? places.Take(s.key_dim) : at.decay;
  at.key = places.Take(s.key_dim);
  at.query = places.Take(heads * s.key_dim);
  at.weight = places.Take(heads * s.key_dim);
  at.value = places.Take(s.value_dim);
  at.value_read = places.Take(s.value_gate ? s.value_dim : 0);
  at.value_decay = places.Take(s.value_gate ? s.value_dim : 0);
  at.largest = places.Take(is_int8 ? p.stage_rows : 0);
  at.limbs = places.Take(p.limb_rows * heads * p.limb_pitch *
                         static_cast<int32_t>(StateTypeBytes(s.state.type)) / 4);
  at.partial = places.Take(p.slices / p.blocks * heads * p.sum_groups * s.value_dim);
  at.end = places.end;
  return at;
}

ReplayHeadLayout LayOutCopy(const GatedShape& s, bool copies_ring) {
  const bool has_ring = s.state.ring > 0;
  const int32_t held = copies_ring ? s.state.Held() : 0;
  const int32_t numbers = s.dtype == DType::kFloat32 ? 1 : 2;  // in four bytes
  Places places;
  ReplayHeadLayout at = {};
  at.query = places.Take(s.heads == s.kv_heads ? s.key_dim / numbers : 0);
  at.key = places.Take(s.key_dim / numbers);
  at.value = places.Take(s.value_dim / numbers);
  at.gate = places.Take(s.gate == GateKind::kVector ? s.key_dim : 0);
  at.value_gate = places.Take(s.value_gate ? s.value_dim : 0);
  at.log_decay = places.Take(has_ring ? s.key_dim : 0);
  at.value_log_decay = places.Take(has_ring && s.value_gate ? s.value_dim : 0);
  at.scales = places.Take(s.state.type == StateType::kInt8 ? s.key_dim : 0);
  at.ring_keys = places.Take(held * s.key_dim);
  at.ring_values = places.Take(held * s.value_dim);
  at.end = places.end;
  return at;
}

// Fills in where everything lies in so many bytes, and whether there is room for it.
bool LaysOut(ReplayParams& p, int32_t heads, bool copies_ring, size_t shared_bytes) {
  constexpr int32_t kLeastStages = 2;
  const int32_t stage = p.stage_rows * p.pitch / 4;
  p.copies_ring = copies_ring;
  p.at = LayOutFactors(p, heads);
  p.copy_at = LayOutCopy(p.args.shape, copies_ring);
  p.at.copy = p.at.end;
  p.at.stages = p.at.copy + p.copy_at.end;
  p.stages =
      std::min(kReplayStages, (static_cast<int32_t>(shared_bytes / 4) - p.at.stages) / stage);
  p.at.end = p.at.stages + p.stages * stage;
  return p.stages >= kLeastStages;
}

// Two blocks at once if they can be, with the ring copied; or else one, if need be without. Returns
// how many.
int32_t LayOut(ReplayParams& p, int32_t heads) {
  constexpr size_t kDeclared = sizeof(ReplayShared<kGroupHeads>);  // by the kernels, at most
  constexpr size_t kKept = 1 << 10;  // of a block's shared memory, by the GPU
  const size_t largest = LargestSharedBytes() - kDeclared;
  const size_t part = (LargestSharedBytes() + kKept) / kBlocksAtOnce - kKept - kDeclared;
  if (LaysOut(p, heads, true, part)) return kBlocksAtOnce;
  SLUICE_CHECK(LaysOut(p, heads, true, largest) || LaysOut(p, heads, false, largest));
  return 1;
}

// How rows lie in a stage.
template <StateType kType>
void SetStage(ReplayParams& p) {
  constexpr int32_t kBytes = 16 << 10;  // about
  constexpr int32_t kPadded = 256;      // bytes of a row, and more
  constexpr bool kLimbed = kType != StateType::kFloat32;
  const GatedShape& s = p.args.shape;
  const int32_t row = p.lanes * 16;
  // Rows that a tensor core's load would find in the same banks are padded, unless they are so
  // short that copying them one by one would take longer.
  p.pitch = kLimbed && p.lanes % 2 == 0 && row >= kPadded ? row + 16 : row;
  int32_t step = 4 * p.groups;
  if constexpr (kLimbed) {
    step = Limbs<kType>::kStep;
    p.limb_rows = Limbs<kType>::kCount;
    // Neighbouring rows of A lie in other banks.
    p.limb_pitch =
        (s.key_dim + step - 1) / step * step + 16 / static_cast<int32_t>(StateTypeBytes(kType));
  }
  p.sum_groups = kLimbed ? 1 : p.groups;
  p.stage_rows =
      std::min(std::max(kBytes / row / step, 1) * step, (s.key_dim + step - 1) / step * step);
}

template <StateType kType, int kHeads>
void Launch(const GatedStepArgs& args, cudaStream_t stream) {
  const GatedShape& s = args.shape;
  ReplayParams p = {};
  p.args = args;
  p.parts = s.Parts();
  p.lanes = s.value_dim / kPackedNumbers<kType>;
  const int32_t most_groups = std::min(kReplayReaders / p.lanes, s.key_dim / kRows<kType>);
  p.groups = LargestPower(most_groups, [](int32_t) { return true; });
  SetStage<kType>(p);
  // Slices are whole stages. Heads that share passes come to one block.
  p.slices = kHeads > 1 ? 1 : LargestPower(kReplaySlices, [&](int32_t slices) {
    return s.key_dim % (slices * p.stage_rows) == 0;
  });
  const int32_t items = args.rows * s.kv_heads;
  const int32_t most_blocks = std::min(LargestCluster(), p.slices);
  p.blocks = LargestPower(most_blocks, [&](int32_t blocks) {
    return int64_t{items} * blocks <= MultiprocessorCount();
  });
  const int32_t at_once = LayOut(p, kHeads) * MultiprocessorCount();
  const int32_t clusters = p.blocks > 1 ? items : std::min(items, at_once);
  const LaunchShape shape = {dim3(clusters * p.blocks), kReplayThreads, p.at.end * sizeof(float),
                             static_cast<uint32_t>(p.blocks)};
  LaunchKernel(shape, stream, ReplayKernel<kType, kHeads>, p);
}

template <StateType kType>
void LaunchHeads(const GatedStepArgs& args, cudaStream_t stream) {
  if (args.shape.heads == args.shape.kv_heads) {
    Launch<kType, 1>(args, stream);
  } else {
    Launch<kType, kGroupHeads>(args, stream);
  }
}

}  // namespace

void GatedReplayCuda(const GatedStepArgs& args, cudaStream_t stream) {
  SLUICE_CHECK(IsAligned16(args.operands.q) && IsAligned16(args.operands.k));
  SLUICE_CHECK(args.shape.gate != GateKind::kVector || IsAligned16(args.operands.log_decay));
  switch (args.shape.state.type) {
    case StateType::kFloat32:
      return LaunchHeads<StateType::kFloat32>(args, stream);
    case StateType::kFloat16:
      return LaunchHeads<StateType::kFloat16>(args, stream);
    case StateType::kInt8:
      return LaunchHeads<StateType::kInt8>(args, stream);
  }
}

}  // namespace sluice
