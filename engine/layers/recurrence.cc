#include "engine/layers/recurrence.h"

namespace sluice {

void RunRecurrence(const Compute& compute, const GatedShape& shape, const BatchView& batch,
                   const GatedOperands& operands, void* workspace, const RecurrenceEnds& ends) {
  const bool has_segments = batch.segment_count > 0;
  if (has_segments && ends.log_gate != nullptr) compute.device->LogGate(*ends.log_gate);
  if (batch.decode_rows > 0) {
    compute.device->GatedStep({.shape = shape,
                               .rows = batch.decode_rows,
                               .slots = batch.decode_slots,
                               .operands = operands,
                               .sink = batch.sink,
                               .log_gate = has_segments ? nullptr : ends.log_gate,
                               .norm = has_segments ? nullptr : ends.norm});
  }
  if (has_segments) {
    compute.device->GatedChunk({.shape = shape,
                                .segment_count = batch.segment_count,
                                .segments = batch.segments,
                                .chunk_count = batch.chunk_count,
                                .chunks = batch.chunks,
                                .operands = operands,
                                .workspace = workspace});
  }
  if (has_segments && ends.norm != nullptr) compute.device->Norm(*ends.norm);
}

}  // namespace sluice
