// How GatedChunk runs over a state that is not float32 alone: what the segments begin with is
// unpacked into the workspace, rings folded in, the chunkwise form runs on that, and what they end
// with is packed back, with empty rings.
#pragma once

#include <cstdint>

#include "kernels/gated_chunk.h"

namespace sluice {

constexpr int64_t AlignedWorkspace(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Bytes of the workspace that this takes, before those of the chunkwise form.
constexpr int64_t UnpackedBytes(const GatedShape& shape, int64_t segments) {
  if (shape.state.IsPlain()) return 0;
  return AlignedWorkspace(segments * shape.StateSize() * 4) +
         AlignedWorkspace(segments * int64_t{sizeof(Segment)});
}

// What the chunkwise form is run with: its segment i has slot i of states in the workspace. The
// table of segments is there too, and `table` may be written.
struct UnpackedChunk {
  GatedChunkArgs args;
  Segment* table;
};

inline UnpackedChunk UnpackedArgs(const GatedChunkArgs& packed) {
  UnpackedChunk unpacked = {packed, nullptr};
  GatedChunkArgs& args = unpacked.args;
  char* const states = static_cast<char*>(packed.workspace);
  const int64_t state_bytes = packed.segment_count * packed.shape.StateSize() * 4;
  unpacked.table = reinterpret_cast<Segment*>(states + AlignedWorkspace(state_bytes));
  args.shape.state = {};
  args.segments = unpacked.table;
  args.operands.states = reinterpret_cast<float*>(states);
  args.operands.slot_stride = packed.shape.StateSize();
  args.workspace = states + UnpackedBytes(packed.shape, packed.segment_count);
  return unpacked;
}

}  // namespace sluice
