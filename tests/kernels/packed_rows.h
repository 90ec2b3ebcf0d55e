// Runs of tokens as ops take them: segments and chunks one after the other in a batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/segment.h"

namespace sluice {

struct TokenRun {
  int32_t length;    // tokens
  int32_t position;  // of the first one in its sequence
  int32_t slot;
};

struct PackedRows {
  std::vector<Segment> segments;
  std::vector<ChunkSpan> chunks;
  int32_t rows;  // from the start of the batch to the end of the last run
};

// The first run starts at `first_row`.
inline PackedRows PackRuns(const std::vector<TokenRun>& runs, int32_t first_row) {
  PackedRows packed;
  packed.rows = first_row;
  for (const TokenRun& run : runs) {
    const auto segment = static_cast<int32_t>(packed.segments.size());
    const auto first_chunk = static_cast<int32_t>(packed.chunks.size());
    packed.segments.push_back({packed.rows, run.length, run.slot, run.position, first_chunk});
    for (int32_t done = 0; done < run.length;) {
      const int32_t to_grid = kChunk - (run.position + done) % kChunk;
      const int32_t length = std::min(to_grid, run.length - done);
      packed.chunks.push_back({segment, packed.rows + done, length});
      done += length;
    }
    packed.rows += run.length;
  }
  return packed;
}

}  // namespace sluice
