// The sequences of a batch in a kernel: those of its decode rows, then its segments.
#pragma once

#include <cstdint>

#include "kernels/segment.h"

namespace sluice {

// `args` has decode_rows, slots and segments.
template <typename Args>
__device__ inline Segment SequenceSegment(const Args& args, int32_t sequence) {
  if (sequence >= args.decode_rows) return args.segments[sequence - args.decode_rows];
  return {
      .row = sequence, .length = 1, .slot = args.slots[sequence], .position = 0, .first_chunk = 0};
}

}  // namespace sluice
