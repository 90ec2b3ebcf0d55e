// What a launch of the replay step (gated_replay.cu) decides: who works on what of a head, and
// where a block's arrays lie in its shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/gated_step.h"

namespace sluice {

constexpr int kReplayThreads = 256;
constexpr int kReplaySlices = 4;        // of K, at most
constexpr int kLeastReplayBatches = 2;  // on their way
constexpr int kReplayBatches = 4;       // likewise, at most
constexpr int kReplayRows = 4;          // of a thread in a batch
constexpr int kReplayBlocks = 2;  // of a multiprocessor at once: one walks while the other begins

// Query heads that share a pass over a state, where a state has several.
constexpr int ReplayGroupHeads(StateType type) { return type == StateType::kFloat32 ? 4 : 2; }
// Rows of a thread that are folded together: the more, the less often a token is read.
constexpr int ReplayFoldRows(StateType type) {
  return type == StateType::kInt8 ? kReplayRows : 2 * kReplayRows;
}

// Where a block's arrays lie, in floats; each 16-byte aligned.
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
  int32_t ring_keys;    // [L - 1, K]; while folding, decayed; if the ring is copied
  int32_t ring_values;  // [L - 1, V]: first each thread's first quad of columns, then the second;
                        // likewise
  int32_t partial;      // [sums of the block, heads of a pass, groups, V]
  int32_t batches;      // [batches, kReplayRows, threads] 16 bytes
  int32_t end;
};

struct ReplayPlan {
  int32_t heads;     // query heads of a pass: 1, or ReplayGroupHeads
  int32_t lanes;     // threads side by side: 16 bytes each of a row of the matrix
  int32_t groups;    // of threads, one below another
  int32_t slices;    // of K, each summed for itself: a multiple of `blocks`
  int32_t blocks;    // of a cluster, each with as many slices of a state
  int32_t sums;      // that a block keeps: one, or if blocks share a head one a slice
  int32_t batches;   // on their way, of kReplayRows rows a thread
  bool copies_ring;  // to shared memory; else it is read where it is
  bool whole;        // all threads have as many rows, and no batch lacks any
  ReplayLayout at;
};

// Of a GPU.
struct ReplayRoom {
  int32_t multiprocessors;
  int32_t largest_cluster;  // blocks, a power of two
  size_t shared_bytes;      // that a block may have: at least kLeastSharedBytes
};

// What a block may have on every GPU of compute capability 8.0 and up: that of 8.6 and 8.9.
constexpr size_t kLeastSharedBytes = 99 << 10;

// The block's shared memory is at.end floats, beyond those of the scores, which the kernel
// declares. All shapes have one; bits depend on slices and groups, which are the shape's alone.
ReplayPlan PlanReplay(const GatedShape& shape, int64_t rows, const ReplayRoom& room);

}  // namespace sluice
