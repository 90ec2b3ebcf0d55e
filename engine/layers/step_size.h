// How large a step is, by what a sublayer's scratch memory grows with.
#pragma once

#include <cstdint>

#include "engine/batch.h"

namespace sluice {

struct StepSize {
  int32_t rows;
  int32_t chunks;  // of all segments
  int32_t segments;
};

inline StepSize SizeOf(const BatchView& batch) {
  return {batch.rows, batch.chunk_count, batch.segment_count};
}

}  // namespace sluice
