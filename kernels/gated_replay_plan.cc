#include "kernels/gated_replay_plan.h"

#include <algorithm>

#include "kernels/check.h"

namespace sluice {
namespace {

// Groups of threads: as many sums of a column are added up at the end.
constexpr int32_t kMostGroups = 32;

// Gives out places, in floats.
struct Places {
  int32_t end = 0;

  int32_t Take(int32_t floats) {
    const int32_t begin = end;
    end += (floats + 3) / 4 * 4;
    return begin;
  }
};

// With as many batches as so many bytes have room for. Returns whether that is enough.
bool LaysOut(const GatedShape& s, size_t shared_bytes, ReplayPlan& p) {
  constexpr int32_t kBatch = kReplayRows * kReplayThreads * 4;
  const bool is_int8 = s.state.type == StateType::kInt8;
  const int32_t held = p.copies_ring ? s.state.Held() : 0;
  Places places;
  ReplayLayout& at = p.at;
  at.sums = places.Take(s.key_dim);
  at.read = places.Take(s.key_dim);
  at.decay = places.Take(s.key_dim);
  at.row_decay = is_int8 ? places.Take(s.key_dim) : at.decay;
  at.key = places.Take(s.key_dim);
  at.query = places.Take(p.heads * s.key_dim);
  at.decayed = places.Take(p.heads * s.key_dim);
  at.weight = is_int8 ? places.Take(p.heads * s.key_dim) : at.decayed;
  at.value = places.Take(s.value_dim);
  at.value_sums = places.Take(s.value_gate ? s.value_dim : 0);
  at.value_read = places.Take(s.value_gate ? s.value_dim : 0);
  at.value_decay = places.Take(s.value_gate ? s.value_dim : 0);
  at.largest = places.Take(is_int8 ? s.key_dim : 0);
  at.ring_keys = places.Take(held * s.key_dim);
  at.ring_values = places.Take(held * s.value_dim);
  at.partial = places.Take(p.sums * p.heads * p.groups * s.value_dim);
  at.batches = places.end;
  p.batches =
      std::min(kReplayBatches, (static_cast<int32_t>(shared_bytes / 4) - at.batches) / kBatch);
  at.end = at.batches + p.batches * kBatch;
  return p.batches >= kLeastReplayBatches;
}

// For several blocks of a multiprocessor at once if they have room.
bool LayOut(const GatedShape& s, size_t shared_bytes, ReplayPlan& p) {
  constexpr size_t kKept = 1 << 10;  // of a block's shared memory, by the GPU
  const size_t declared = sizeof(float) * p.heads * kMaxStateRing;
  const size_t part = (shared_bytes + kKept) / kReplayBlocks - kKept;
  return LaysOut(s, part - declared, p) || LaysOut(s, shared_bytes - declared, p);
}

// The largest power of two up to `most` of which `accepts` is true; of 1 it is not asked.
template <typename Accepts>
int32_t LargestPower(int32_t most, const Accepts& accepts) {
  int32_t power = 1;
  while (2 * power <= most && accepts(2 * power)) power *= 2;
  return power;
}

// With `most` blocks of a cluster, or fewer if only so the ring has room; else without the ring.
bool PlanMemory(const GatedShape& s, int32_t most, size_t shared_bytes, ReplayPlan& p) {
  for (const bool copies : {true, false}) {
    p.copies_ring = copies;
    for (p.blocks = most; p.blocks >= 1; p.blocks /= 2) {
      p.sums = p.blocks == 1 ? 1 : p.slices / p.blocks;
      if (LayOut(s, shared_bytes, p)) return true;
    }
  }
  return false;
}

}  // namespace

ReplayPlan PlanReplay(const GatedShape& s, int64_t rows, const ReplayRoom& room) {
  const int32_t numbers = 16 / static_cast<int32_t>(StateTypeBytes(s.state.type));
  ReplayPlan p = {};
  p.heads = s.heads == s.kv_heads ? 1 : ReplayGroupHeads(s.state.type);
  p.lanes = s.value_dim / numbers;
  p.groups = std::min({kReplayThreads / p.lanes, s.key_dim, kMostGroups});
  // A slice fills its batches. Heads that share passes come to one block.
  p.slices = p.heads > 1 ? 1 : LargestPower(kReplaySlices, [&](int32_t slices) {
    return s.key_dim % (slices * kReplayRows * p.groups) == 0;
  });
  const int64_t places = int64_t{kReplayBlocks} * room.multiprocessors;
  const int32_t blocks = LargestPower(std::min(room.largest_cluster, p.slices), [&](int32_t count) {
    return rows * s.kv_heads * count <= places;
  });
  SLUICE_CHECK(PlanMemory(s, blocks, room.shared_bytes, p));
  p.whole = kReplayThreads == p.groups * p.lanes &&
            s.key_dim % (p.slices * kReplayRows * p.groups) == 0 &&
            s.key_dim % (p.blocks * ReplayFoldRows(s.state.type) * p.groups) == 0;
  return p;
}

}  // namespace sluice
