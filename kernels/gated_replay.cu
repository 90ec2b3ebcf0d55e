// A step over states of any format. A block owns a state head of a row and walks along its matrix:
// a thread has the same 16 bytes of every few rows, which it copies to a place in shared memory of
// its own some batches ahead, so that it waits for no other thread. It asks for the first ones, for
// the operands and, if it has room, for the ring before anything else, and makes the head's factors
// and the scores of the ring while they are on their way. In the token that ends a ring the rows
// are folded as they come and stored: nothing is read twice. Where there are few heads a cluster of
// blocks shares one, each some rows of the matrix.
//
// Bytes of a head, K x V of b bytes, n of L tokens in the ring: K V b read, n (K + V) 4 of the
// ring, K 4 of its sums read and written, (K + V) 4 of the token; in one step of L K V b written
// instead of the token. Each block of a cluster reads the ring and the sums.
//
// With the parts of a step (gated_step.h) a block makes its head's log decays, K (rank + 1) 4 bytes
// of weights, and the blocks of a head norm its outputs, V of the norm's gate.
//
// K is summed in slices, whose sums are added in their order: any number of blocks gives the same
// bits.
#include "kernels/gated_replay.cuh"

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_ops.h"
#include "kernels/gated_replay_cuda.h"
#include "kernels/gated_replay_fold.cuh"
#include "kernels/gated_replay_head.cuh"
#include "kernels/gated_replay_norm.cuh"
#include "kernels/gated_step.cuh"
#include "kernels/launch.cuh"
#include "kernels/log_gate.cuh"
#include "kernels/mma.cuh"
#include "kernels/norm.cuh"
#include "kernels/pack.cuh"

namespace sluice {
namespace {

// What queries read in a thread's columns.
template <StateType kType, int kHeads>
struct Sums {
  float v[kHeads][kPackedNumbers<kType>];
};

// A place on a thread's way along its part of the matrix: a batch of kReplayRows rows.
struct BatchPlace {
  int32_t slice = 0;   // of the block's
  int32_t row = 0;     // of the slice, the first that any thread has
  int32_t buffer = 0;  // of those in shared memory
};

// That way. `kWhole`: all threads have as many rows, and no batch lacks any.
template <StateType kType, bool kWhole>
struct Walk {
  const ReplayWork<kType>& w;
  int32_t slice_rows;
  int32_t begin;   // the block's first row
  int32_t slices;  // of the block
  BatchPlace fetched;
  BatchPlace read;

  __device__ explicit Walk(const ReplayWork<kType>& work)
      : w(work),
        slice_rows(work.shape().key_dim / work.plan().slices),
        begin(work.rank * (work.shape().key_dim / work.plan().blocks)),
        slices(work.plan().slices / work.plan().blocks) {}

  __device__ void Advance(BatchPlace& place) const {
    place.row += kReplayRows * w.plan().groups;
    if (place.row >= slice_rows) {
      place.row = 0;
      ++place.slice;
    }
    if (++place.buffer == w.plan().batches) place.buffer = 0;
  }
  // Row i of the thread; K if there is none.
  __device__ int32_t ChannelOf(const BatchPlace& place, int i) const {
    const int32_t row = place.row + i * w.plan().groups + w.group;
    const int32_t channel = begin + place.slice * slice_rows + row;
    if constexpr (kWhole) return channel;
    const bool is_there = w.group < w.plan().groups && row < slice_rows && place.slice < slices;
    return is_there ? channel : w.shape().key_dim;
  }
  __device__ uint4* BufferOf(const BatchPlace& place, int i) const {
    auto* const buffers = reinterpret_cast<uint4*>(w.at(w.plan().at.batches));
    return buffers + (place.buffer * kReplayRows + i) * kReplayThreads + threadIdx.x;
  }

  // Starts copying the next batch, zeros for rows that are missing. What is copied until the next
  // commit is awaited with it.
  __device__ void Fetch() {
    if (fetched.slice == slices) return;
    const auto* const matrix = reinterpret_cast<const uint4*>(w.state.matrix) + w.lane;
#pragma unroll
    for (int i = 0; i < kReplayRows; ++i) {
      const int32_t channel = ChannelOf(fetched, i);
      const bool is_there = kWhole || channel < w.shape().key_dim;
      CopyAsync(BufferOf(fetched, i), matrix + (is_there ? channel * w.plan().lanes : 0), is_there);
    }
    Advance(fetched);
  }
  // Behind the first batch and what is awaited with it: starts copying all that are on their way at
  // a time.
  __device__ void FetchAhead() {
    CopyAsyncCommit();
    for (int32_t batch = 1; batch < w.plan().batches; ++batch) {
      Fetch();
      CopyAsyncCommit();
    }
  }
  // Waits for the oldest batch that is on its way.
  __device__ void AwaitBatch() const {
    static_assert(kReplayBatches == 4);
    if (w.plan().batches == 2) {
      CopyAsyncWait<1>();
    } else if (w.plan().batches == 3) {
      CopyAsyncWait<2>();
    } else {
      CopyAsyncWait<3>();
    }
  }
  // Takes the next batch out, as rows `first` and on.
  template <int kCount>
  __device__ void Load(BatchRows<kType, kCount, kWhole>& batch, int first) const {
#pragma unroll
    for (int i = 0; i < kReplayRows; ++i) {
      batch.rows[first + i] = UnpackNumbers<kType>(*BufferOf(read, i));
      batch.channels[first + i] = ChannelOf(read, i);
    }
  }
};

// Adds what the queries read of a batch: rows `first` and on.
template <StateType kType, int kHeads, int kCount, bool kWhole>
__device__ void AddBatch(const ReplayWork<kType>& w, const BatchRows<kType, kCount, kWhole>& batch,
                         int first, Sums<kType, kHeads>& sums) {
  const int32_t key_dim = w.shape().key_dim;
#pragma unroll
  for (int r = first; r < first + kReplayRows; ++r) {
#pragma unroll
    for (int h = 0; h < kHeads; ++h) {
      const float weight = batch.At(r, w.at(w.plan().at.weight) + h * key_dim, key_dim);
#pragma unroll
      for (int n = 0; n < kPackedNumbers<kType>; ++n) {
        sums.v[h][n] = fmaf(weight, batch.rows[r].v[n], sums.v[h][n]);
      }
    }
  }
}

// Sum `index` of the block's, of head `h` of a pass and a group of threads: [V].
template <int kHeads, StateType kType>
__device__ float* PartialAt(const ReplayWork<kType>& w, int32_t index, int h, int32_t group) {
  const int64_t row = (index * kHeads + h) * w.plan().groups + group;
  return w.at(w.plan().at.partial) + row * w.shape().value_dim;
}

// Keeps the thread's sums of a slice, or adds them to those of the slices before it.
template <StateType kType, int kHeads>
__device__ void StoreSlice(const ReplayWork<kType>& w, int32_t slice,
                           const Sums<kType, kHeads>& sums) {
  if (w.group >= w.plan().groups) return;
  const bool adds = w.plan().sums == 1 && slice > 0;
#pragma unroll
  for (int h = 0; h < kHeads; ++h) {
    float* const to = PartialAt<kHeads>(w, w.plan().sums == 1 ? 0 : slice, h, w.group) +
                      w.lane * kPackedNumbers<kType>;
#pragma unroll
    for (int n = 0; n < kPackedNumbers<kType>; n += 4) {
      const float* const v = sums.v[h] + n;
      const float4 before = adds ? LoadQuad(to + n) : make_float4(0.0F, 0.0F, 0.0F, 0.0F);
      StoreQuad(to + n,
                make_float4(before.x + v[0], before.y + v[1], before.z + v[2], before.w + v[3]));
    }
  }
}

// Reads the block's rows, of which the first batches are on their way.
template <bool kFolds, int kHeads, StateType kType, bool kWhole>
__device__ void WalkRows(Walk<kType, kWhole>& walk) {
  constexpr int kRows = kFolds ? kFoldRows<kType> : kReplayRows;
  const ReplayWork<kType>& w = walk.w;
  Sums<kType, kHeads> sums = {};
#pragma unroll 1
  while (walk.read.slice < walk.slices) {
    BatchRows<kType, kRows, kWhole> batch;
#pragma unroll
    for (int first = 0; first < kRows; first += kReplayRows) {
      const int32_t slice = walk.read.slice;
      walk.AwaitBatch();
      walk.Load(batch, first);
      if (!kWhole && slice == walk.slices) continue;  // Behind the last one all rows are missing.
      walk.Advance(walk.read);
      AddBatch(w, batch, first, sums);
      walk.Fetch();
      CopyAsyncCommit();
      if (walk.read.slice == slice) continue;
      StoreSlice(w, slice, sums);
      sums = {};
    }
    if constexpr (kFolds) FoldRows(w, batch);
  }
}

// What head `h` of the pass reads of the matrix in a quad of columns: its sums over slices and
// groups of threads, in their order.
template <int kHeads, StateType kType>
__device__ float4 MatrixAt(const ReplayWork<kType>& w, int h, int32_t column) {
  const ReplayPlan& p = w.plan();
  float4 sum = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll 2
  for (int32_t group = 0; group < p.groups; ++group) {
    if (p.blocks == 1) {
      sum = Add(sum, 1.0F, LoadQuad(PartialAt<kHeads>(w, 0, h, group) + column));
      continue;
    }
    float4 x[kReplaySlices];
#pragma unroll
    for (int slice = 0; slice < kReplaySlices; ++slice) {
      if (slice >= p.slices) break;
      float* const at = PartialAt<kHeads>(w, slice % p.sums, h, group) + column;
      x[slice] = LoadQuad(InBlock(at, slice / p.sums));
    }
    float4 of_group = make_float4(0.0F, 0.0F, 0.0F, 0.0F);
#pragma unroll
    for (int slice = 0; slice < kReplaySlices; ++slice) {
      if (slice < p.slices) of_group = Add(of_group, 1.0F, x[slice]);
    }
    sum = Add(sum, 1.0F, of_group);
  }
  return sum;
}

// Adds up what was read of the matrix, the ring and the token, and stores the outputs of a pass.
// Each block of a cluster stores those of some columns.
template <int kHeads, StateType kType>
__device__ void StoreOutputs(const ReplayWork<kType>& w, const HeadPass& pass,
                             const float (&scores)[kHeads][kMaxStateRing]) {
  const ReplayPlan& p = w.plan();
  const GatedShape& s = w.shape();
  SyncCluster(p.blocks);
  const int32_t quads = s.value_dim / 4 / p.blocks;
  for (int32_t i = threadIdx.x; i < quads * pass.count; i += kReplayThreads) {
    const int32_t h = i / quads;
    const int32_t column = 4 * (w.rank * quads + i - h * quads);
    const float4 out = OutputsAt(w, scores, h, column, MatrixAt<kHeads>(w, h, column));
    const int64_t at = (int64_t{w.row} * s.heads + pass.head + h) * s.value_dim + column;
    StoreNumbers(w.operands().out, at, s.dtype, out);
  }
}

// The same with the norm behind it, of one head.
template <StateType kType>
__device__ void NormOutputs(const ReplayWork<kType>& w, const float (&scores)[1][kMaxStateRing]) {
  SyncCluster(w.plan().blocks);
  const OwnQuad quad = QuadOfThread(w);
  float4 out = {};
  if (quad.is_there) out = OutputsAt(w, scores, 0, quad.column, MatrixAt<1>(w, 0, quad.column));
  StoreNormedOutputs(w, quad, out);
}

// The passes of a head over its state.
template <bool kWhole, int kHeads, StateType kType>
__device__ void ReadHead(const ReplayWork<kType>& w, float (&scores)[kHeads][kMaxStateRing]) {
  const GatedShape& s = w.shape();
  const int32_t group = kHeads == 1 ? 1 : s.heads / s.kv_heads;
  bool folds = false;
  for (int32_t done = 0; done < group; done += kHeads) {
    const HeadPass pass = {w.kv_head * group + done, min(kHeads, group - done)};
    Walk<kType, kWhole> walk(w);
    if (done == 0) {
      walk.Fetch();
      const HeadOperands<kHeads> operands = LoadOperands<kHeads>(w, pass);
      FetchRing(w);
      walk.FetchAhead();
      const bool passes = StoreFactors(w, operands);
      walk.AwaitBatch();
      folds = __syncthreads_or(static_cast<int>(passes | (w.held >= s.state.Held()))) != 0;
    } else {
      __syncthreads();  // The sums, scores and queries of the pass before have been read.
      walk.Fetch();
      walk.FetchAhead();
      MakeQueries<kHeads>(w, pass);
      __syncthreads();
    }
    // What of the ring MoveRing changes has been read: all but its tokens, of which it adds one.
    if (done == 0) ArriveClusterUnwritten(w.plan().blocks);
    MakeScores(w, pass, scores);
    if (done == 0) {
      WaitCluster(w.plan().blocks);
      if (w.has_ring() && w.rank == 0) MoveRing(w, folds);
    }
    if (folds && done + kHeads >= group) {
      __syncthreads();  // All scores are made.
      DecayKeys(w);
      __syncthreads();
      WalkRows<true, kHeads>(walk);
    } else {
      WalkRows<false, kHeads>(walk);
    }
    if constexpr (kHeads == 1) {
      if (w.fusion.norm) {
        NormOutputs(w, scores);
        return;
      }
    }
    StoreOutputs(w, pass, scores);
  }
}

// Grid: (blocks of a cluster, state heads, rows). `kParts`: whether it does any part of the step
// beside the recurrence.
template <StateType kType, int kHeads, bool kWhole, bool kParts>
__global__ __launch_bounds__(kReplayThreads, kReplayBlocks) void ReplayKernel(
    const __grid_constant__ ReplayParams p) {
  EnterStream();
  extern __shared__ float4 dynamic[];
  __shared__ float scores[kHeads][kMaxStateRing];
  const ReplayPlan& plan = p.plan;
  const auto thread = static_cast<int32_t>(threadIdx.x);
  const auto rank = static_cast<int32_t>(blockIdx.x);
  const auto kv_head = static_cast<int32_t>(blockIdx.y);
  const auto row = static_cast<int32_t>(blockIdx.z);
  const int32_t slot = p.args.slots[row];
  const bool fills_up = slot == p.args.sink;  // all blocks of a cluster or none
  if (fills_up && !(kParts && p.fusion.norm)) {
    ZeroOutputs(p.args, row, kv_head, rank * kReplayThreads + thread, plan.blocks * kReplayThreads);
    return;
  }
  const GatedOperands& op = p.args.operands;
  const HeadState state =
      ViewHead(p.args.shape, p.parts, op.states + slot * op.slot_stride, kv_head);
  const bool has_ring = p.args.shape.state.ring > 0;
  const ReplayWork<kType> w = {.params = p,
                               .memory = reinterpret_cast<float*>(dynamic),
                               .fusion = kParts ? p.fusion : StepFusion{},
                               .state = state,
                               .row = row,
                               .kv_head = kv_head,
                               .rank = rank,
                               .held = has_ring ? HeldIn(state.count) : 0,
                               .lane = thread % plan.lanes,
                               .group = thread / plan.lanes};
  if (kParts && fills_up) {
    StoreNormedZeros(w);
    return;
  }
  ReadHead<kWhole, kHeads>(w, scores);
  if (plan.blocks > 1) {  // The other blocks have read this one's sums.
    ArriveClusterUnwritten(plan.blocks);
    WaitCluster(plan.blocks);
  }
}

template <StateType kType, bool kParts>
auto KernelOf(const ReplayPlan& plan) {
  if (plan.heads > 1) return ReplayKernel<kType, ReplayGroupHeads(kType), false, false>;
  return plan.whole ? ReplayKernel<kType, 1, true, kParts> : ReplayKernel<kType, 1, false, kParts>;
}

template <StateType kType>
void Launch(const GatedStepArgs& args, const StepFusion& fusion, const ReplayRoom& room,
            cudaStream_t stream) {
  const GatedShape& s = args.shape;
  const ReplayPlan plan = PlanReplay(s, args.rows, room);
  ReplayParams params = {args, s.Parts(), plan, fusion, {}, {}};
  if (fusion.log_gate) params.log_gate = *args.log_gate;
  if (fusion.norm) params.norm = *args.norm;
  const LaunchShape shape = {dim3(plan.blocks, s.kv_heads, args.rows), kReplayThreads,
                             plan.at.end * sizeof(float), static_cast<uint32_t>(plan.blocks)};
  const bool has_parts = fusion.log_gate || fusion.norm;
  LaunchKernel(shape, stream,
               has_parts ? KernelOf<kType, true>(plan) : KernelOf<kType, false>(plan), params);
}

}  // namespace

StepFusion ReplayFusionOf(const GatedStepArgs& args) {
  // With more heads than run at once, waiting for all of a head's outputs costs more than a launch.
  const int64_t heads_at_once = int64_t{kReplayBlocks} * MultiprocessorCount();
  return {.log_gate = HasGateToMake(args),
          .norm = HasNormOfHeads(args) && int64_t{args.rows} * args.shape.heads <= heads_at_once};
}

void GatedReplayCuda(const GatedStepArgs& args, const StepFusion& fusion, bool portable,
                     cudaStream_t stream) {
  if (fusion.log_gate) CheckLogGate(*args.log_gate);
  if (fusion.norm) CheckNorm(*args.norm);
  const ReplayRoom room = {MultiprocessorCount(), portable ? 1 : LargestCluster(),
                           portable ? kLeastSharedBytes : LargestSharedBytes()};
  switch (args.shape.state.type) {
    case StateType::kFloat32:
      return Launch<StateType::kFloat32>(args, fusion, room, stream);
    case StateType::kFloat16:
      return Launch<StateType::kFloat16>(args, fusion, room, stream);
    case StateType::kInt8:
      return Launch<StateType::kInt8>(args, fusion, room, stream);
  }
}

}  // namespace sluice
