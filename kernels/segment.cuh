// The sequences of a batch in a kernel: those of its decode rows, then its segments, each of which
// several blocks may share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/check.h"
#include "kernels/segment.h"

namespace sluice {

// Blocks of `tile_rows` rows each: one a decode row, and for each segment as many as the longest
// one may have tiles, up to `max_slices`.
struct SequenceBlocks {
  unsigned count;  // at least 1
  int32_t slices;  // of a segment
};

// `args` has decode_rows, segment_count and rows, and at least one sequence.
template <typename Args>
SequenceBlocks BlocksOfSequences(const Args& args, int32_t tile_rows, int32_t max_slices) {
  // The other segments have at least one row each.
  const int32_t longest = args.rows - args.decode_rows - std::max(args.segment_count - 1, 0);
  const int32_t slices = std::clamp((longest + tile_rows - 1) / tile_rows, 1, max_slices);
  const int64_t count = args.decode_rows + int64_t{args.segment_count} * slices;
  SLUICE_CHECK(count <= INT32_MAX);
  return {static_cast<unsigned>(count), slices};
}

// What a block does of a sequence: tiles `first_tile`, `first_tile` + `tile_step` and so on.
struct SequenceSlice {
  Segment segment;
  int32_t first_tile;
  int32_t tile_step;
};

// `args` has decode_rows, slots and segments.
template <typename Args>
__device__ inline SequenceSlice SliceOfBlock(const Args& args, int32_t block, int32_t slices) {
  if (block >= args.decode_rows) {
    const int32_t at = block - args.decode_rows;
    return {args.segments[at / slices], at % slices, slices};
  }
  const Segment row = {
      .row = block, .length = 1, .slot = args.slots[block], .position = 0, .first_chunk = 0};
  return {row, 0, 1};
}

}  // namespace sluice
