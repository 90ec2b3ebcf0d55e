// What a launch of the replay step (gated_replay.cu) decides, and what its blocks share: where
// their arrays lie, and who works on what.
#pragma once

#include <cstdint>

#include "kernels/bulk_copy.cuh"
#include "kernels/cluster.cuh"
#include "kernels/gated_step.cuh"
#include "kernels/gated_step.h"
#include "kernels/head_state.h"
#include "kernels/launch.cuh"
#include "kernels/pack.cuh"
#include "kernels/packed_state.cuh"
#include "kernels/reduce.cuh"

namespace sluice {

constexpr int kReplayReaders = 256;  // threads that compute
constexpr int kReplayWarps = kReplayReaders / kWarp;
constexpr int kReplayThreads = kReplayReaders + 2 * kWarp;  // and two warps that feed
constexpr int kReplayStages = 8;                            // at most
constexpr int kReplaySlices = 4;                            // of K, at most

// Where a block's arrays lie in its shared memory, in floats; each 16-byte aligned.
struct ReplayLayout {
  int32_t sums;         // [K]: G_t
  int32_t read;         // [K]: exp(G_t), or exp(G_{t-1})
  int32_t decay;        // [K]: exp(G_t)
  int32_t row_decay;    // [K]: decay times the row's scale; of int8, else decay itself
  int32_t key;          // [K]: c k
  int32_t query;        // [heads of a pass, K]: scaled
  int32_t weight;       // [heads of a pass, K]: query times read times the row's scale
  int32_t value;        // [V]: v
  int32_t value_read;   // [V]: exp(B_t), or exp(B_{t-1}); with gated values
  int32_t value_decay;  // [V]: exp(B_t); likewise
  int32_t largest;      // [rows of a stage]: bits of their largest magnitudes; of int8
  int32_t limbs;        // [limbs, heads of a pass, limb_pitch]: the weights cut; of rounded states
  int32_t partial;      // [slices of the block, heads of a pass, sum_groups, V]
  int32_t copy;         // of what a head has beside its matrix
  int32_t stages;       // of the matrix
  int32_t end;
};

// Where the operands and the ring of a head lie in its copy, in floats; each 16-byte aligned.
struct ReplayHeadLayout {
  int32_t query;            // [K] in the type of activations; of heads that do not share a pass
  int32_t key;              // [K] likewise
  int32_t value;            // [V] likewise
  int32_t gate;             // [K]; of vectors
  int32_t value_gate;       // [V]; of gated values
  int32_t log_decay;        // [K]; of a ring
  int32_t value_log_decay;  // [V]; of a ring of gated values
  int32_t scales;           // [K], of which the block's rows are there; of int8
  int32_t ring_keys;        // [L - 1, K]; if the ring is copied
  int32_t ring_values;      // [L - 1, V]
  int32_t end;
};

struct ReplayParams {
  GatedStepArgs args;
  StateParts parts;    // of the shape
  int32_t blocks;      // of a cluster, each with as many rows of a state
  int32_t slices;      // of K, each summed for itself: a power of two, a multiple of `blocks`
  int32_t lanes;       // threads side by side: 16 bytes each of a row of the matrix
  int32_t groups;      // of threads, one below another, each with as many rows of a stage
  int32_t sum_groups;  // of threads that each have sums of all columns
  int32_t stage_rows;
  int32_t pitch;  // of a stage's rows, in bytes
  int32_t stages;
  int32_t limb_rows;   // limbs of a weight
  int32_t limb_pitch;  // numbers
  bool copies_ring;    // with the operands
  ReplayLayout at;
  ReplayHeadLayout copy_at;
};

// A state head of a row, that a block or a cluster works on at a time.
struct ReplayItem {
  int32_t slot;
  int32_t held;       // tokens in the ring
  float log_decay;    // of all channels, unless it is a vector
  float input_scale;  // c
};

// What of a block's shared memory has a fixed size.
template <int kHeads>
struct ReplayShared {
  Barrier full[kReplayStages];
  Barrier empty[kReplayStages];
  Barrier copy_full;
  Barrier copy_empty;
  ReplayItem item;                      // that the copy is of
  Barrier began;                        // The first head's copy has been asked for.
  float scores[kHeads][kMaxStateRing];  // of queries with the tokens held, then with the own one
  float units[kReplaySlices][kHeads];   // of the weights of the block's slices, if they are cut
};

// A place in a ring of stages. Whoever is there waits for the end of their phase of `parity`.
struct ReplayPlace {
  int32_t stage = 0;
  int parity;

  __device__ void Advance(int32_t stages) {
    if (++stage < stages) return;
    stage = 0;
    parity ^= 1;
  }
};

// The block's rows of a state.
struct ReplaySpan {
  int32_t begin;
  int32_t end;
};
__device__ inline ReplaySpan SpanOfBlock(const ReplayParams& p) {
  const int32_t rows = p.args.shape.key_dim / p.blocks;
  const int32_t rank = static_cast<int32_t>(blockIdx.x) % p.blocks;
  return {rank * rows, (rank + 1) * rows};
}

// Calls visit(row, state head) for the block's share, the same in all its threads.
template <typename Visit>
__device__ void VisitItems(const ReplayParams& p, const Visit& visit) {
  const int32_t heads = p.args.shape.kv_heads;
  const int32_t items = p.args.rows * heads;
  const auto clusters = static_cast<int32_t>(gridDim.x) / p.blocks;
  for (int32_t i = static_cast<int32_t>(blockIdx.x) / p.blocks; i < items; i += clusters) {
    visit(i / heads, i % heads);
  }
}

__device__ inline HeadState StateOf(const ReplayParams& p, int32_t slot, int32_t kv_head) {
  const GatedOperands& op = p.args.operands;
  return ViewHead(p.args.shape, p.parts, op.states + slot * op.slot_stride, kv_head);
}

// Waits for the threads that compute.
__device__ inline void MeetReaders() {
  asm volatile("bar.sync 1, %0;\n" ::"n"(kReplayReaders) : "memory");
}
// The same, and tells each whether it is true for any of them.
__device__ inline bool AnyReader(bool value) {
  int any;
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.s32 p, %1, 0;\n"
      "bar.red.or.pred q, 1, %2, p;\nselp.s32 %0, 1, 0, q;\n}\n"
      : "=r"(any)
      : "r"(static_cast<int>(value)), "n"(kReplayReaders)
      : "memory");
  return any != 0;
}

// What a thread that computes works on. What is not needed all the time is looked up or worked out
// again: two blocks leave a thread few registers.
template <int kHeads>
struct ReplayWork {
  const ReplayParams& p;
  ReplayShared<kHeads>& shared;
  float* memory;  // shared
  int32_t row;    // of the batch
  int32_t kv_head;
  int32_t lane;   // in [0, lanes)
  int32_t group;  // in [0, groups), or beyond: the thread has no part of the matrix

  __device__ const ReplayItem& item() const { return shared.item; }
  __device__ HeadState state() const { return StateOf(p, item().slot, kv_head); }
  // What the head has beside its matrix.
  __device__ const float* copy() const { return memory + p.at.copy; }
  // The ring's.
  __device__ const float* keys() const {
    return p.copies_ring ? copy() + p.copy_at.ring_keys : state().keys;
  }
  __device__ const float* values() const {
    return p.copies_ring ? copy() + p.copy_at.ring_values : state().values;
  }
  __device__ const GatedShape& shape() const { return p.args.shape; }
  __device__ const GatedOperands& operands() const { return p.args.operands; }
  __device__ bool exclusive() const { return shape().read == ReadKind::kExclusive; }
  __device__ bool has_ring() const { return shape().state.ring > 0; }
  __device__ bool is_int8() const { return shape().state.type == StateType::kInt8; }
};

}  // namespace sluice
