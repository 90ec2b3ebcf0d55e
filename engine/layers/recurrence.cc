#include "engine/layers/recurrence.h"

namespace sluice {

void RunRecurrence(const Compute& compute, const GatedShape& shape, const BatchView& batch,
                   const GatedOperands& operands, void* workspace) {
  if (batch.decode_rows > 0) {
    compute.device->GatedStep({.shape = shape,
                               .rows = batch.decode_rows,
                               .slots = batch.decode_slots,
                               .operands = operands,
                               .sink = batch.sink});
  }
  if (batch.segment_count > 0) {
    compute.device->GatedChunk({.shape = shape,
                                .segment_count = batch.segment_count,
                                .segments = batch.segments,
                                .chunk_count = batch.chunk_count,
                                .chunks = batch.chunks,
                                .operands = operands,
                                .workspace = workspace});
  }
}

}  // namespace sluice
