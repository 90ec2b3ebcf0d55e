// What a launch of the replay step (gated_replay.cu) decides, and what its threads share: where
// their arrays lie, and who works on what.
#pragma once

#include <cstdint>

#include "kernels/cluster.cuh"
#include "kernels/gated_step.h"
#include "kernels/head_state.h"
#include "kernels/packed_state.cuh"

namespace sluice {

constexpr int kReplayThreads = 256;
constexpr int kReplaySlices = 4;   // of K, at most
constexpr int kReplayBatches = 4;  // on their way, at most
constexpr int kReplayRows = 4;     // of a thread in a batch

// Where a block's arrays lie in its shared memory, in floats; each 16-byte aligned.
struct ReplayLayout {
  int32_t sums;         // [K]: G_t
  int32_t read;         // [K]: exp(G_t), or exp(G_{t-1})
  int32_t decay;        // [K]: exp(G_t)
  int32_t row_decay;    // [K]: decay times the row's scale; of int8, else decay itself
  int32_t key;          // [K]: c k
  int32_t query;        // [heads of a pass, K]: scaled
  int32_t decayed;      // [heads of a pass, K]: query times read
  int32_t weight;       // [heads of a pass, K]: times the row's scale too; of int8, else decayed
  int32_t value;        // [V]: v, its quads as in ring_values
  int32_t value_sums;   // [V]: B_t; of gated values
  int32_t value_read;   // [V]: exp(B_t), or exp(B_{t-1}); likewise
  int32_t value_decay;  // [V]: exp(B_t), its quads as in ring_values; likewise
  int32_t largest;      // [K]: bits of the rows' largest magnitudes; of int8
  int32_t ring_keys;    // [L - 1, K]; while folding, decayed
  int32_t ring_values;  // [L - 1, V]: first each thread's first quad of columns, then the second
  int32_t partial;      // [sums of the block, heads of a pass, groups, V]
  int32_t batches;      // [batches, kReplayRows, threads] 16 bytes
  int32_t end;
};

struct ReplayParams {
  GatedStepArgs args;
  StateParts parts;  // of the shape
  int32_t blocks;    // of a cluster, each with as many slices of a state
  int32_t slices;    // of K, each summed for itself: a multiple of `blocks`
  int32_t sums;      // that a block keeps: one, or if blocks share a head one a slice
  int32_t lanes;     // threads side by side: 16 bytes each of a row of the matrix
  int32_t groups;    // of threads, one below another
  int32_t batches;   // on their way, of kReplayRows rows a thread
  ReplayLayout at;
};

// A state head of a row, and what a thread has of it.
template <StateType kType>
struct ReplayWork {
  const ReplayParams& p;
  float* memory;  // shared
  HeadState state;
  int32_t row;  // of the batch
  int32_t kv_head;
  int32_t rank;   // of the block in its cluster
  int32_t held;   // tokens in the ring
  int32_t lane;   // in [0, lanes)
  int32_t group;  // in [0, groups), or beyond: the thread has no part of the matrix

  __device__ const GatedShape& shape() const { return p.args.shape; }
  __device__ const GatedOperands& operands() const { return p.args.operands; }
  __device__ bool exclusive() const { return shape().read == ReadKind::kExclusive; }
  __device__ bool has_ring() const { return shape().state.ring > 0; }
  __device__ float* at(int32_t place) const { return memory + place; }
};

// Query heads of one pass over the state.
struct HeadPass {
  int32_t head;   // the first
  int32_t count;  // 1..heads that share a pass
};

// Where a column of V lies in a row of ring_values: the quads of a thread's columns are apart, so
// that threads side by side read neighbours.
template <StateType kType>
__device__ int32_t PlaceOfColumn(int32_t lanes, int32_t column) {
  constexpr int32_t kNumbers = kPackedNumbers<kType>;
  const int32_t quad = column % kNumbers / 4;
  return 4 * (quad * lanes + column / kNumbers) + column % 4;
}

}  // namespace sluice
