// The rows of one forward pass: decode rows first, one token each, then prefill segments.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/segment.h"

namespace sluice {

// On the host, as it is planned.
struct Batch {
  std::vector<int32_t> tokens;        // [rows]
  std::vector<int32_t> positions;     // [rows], of each token in its sequence
  std::vector<int32_t> decode_slots;  // [decode rows]
  std::vector<Segment> segments;
  std::vector<ChunkSpan> chunks;

  // Appends one decode row: the token at `position` of its sequence. All decode rows come before
  // the first segment.
  void AddDecode(int32_t token, int32_t slot, int32_t position);
  // Appends a prefill segment of `length` tokens that begins at `position` of its sequence.
  void AddSegment(const int32_t* tokens_begin, int32_t length, int32_t slot, int32_t position);

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
};

// On the device, as ops read it.
struct BatchView {
  int32_t rows = 0;
  int32_t decode_rows = 0;
  int32_t segment_count = 0;
  int32_t chunk_count = 0;
  const int32_t* tokens = nullptr;        // [rows]
  const int32_t* positions = nullptr;     // [rows]
  const int32_t* decode_slots = nullptr;  // [decode_rows]
  const Segment* segments = nullptr;      // [segment_count]
  const ChunkSpan* chunks = nullptr;      // [chunk_count]
  int32_t sink = -1;                      // slot of decode rows that only fill up; -1: none
};

}  // namespace sluice
