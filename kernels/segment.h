// How rows of a batch belong to sequences.
//
// A batch of T rows holds the decode rows first, one token each, then prefill segments: runs of
// consecutive tokens of one sequence. Segments are cut into chunks at multiples of kChunk of the
// sequence's own positions, never of the batch's rows, so that how a prompt was split over steps
// changes nothing.
#pragma once

#include <cstdint>

namespace sluice {

constexpr int32_t kChunk = 64;  // tokens

struct Segment {
  int32_t row;          // first row in the batch
  int32_t length;       // tokens, >= 1
  int32_t slot;         // state slot, distinct within a batch
  int32_t position;     // of the first token in its sequence, >= 0
  int32_t first_chunk;  // index of its first Chunk
};

struct ChunkSpan {
  int32_t segment;  // index of its Segment
  int32_t row;      // first row in the batch
  int32_t length;   // 1..kChunk
};

// Chunks that `length` tokens from `position` on touch.
constexpr int32_t ChunkCount(int32_t position, int32_t length) {
  return (position % kChunk + length + kChunk - 1) / kChunk;
}

}  // namespace sluice
