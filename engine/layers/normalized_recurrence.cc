#include "engine/layers/normalized_recurrence.h"

#include "engine/layers/recurrence.h"

namespace sluice {

NormalizedRecurrence::NormalizedRecurrence(GatedShape shape, NormalizeKind kind, float eps)
    : padded_(shape), kind_(kind), eps_(eps) {
  padded_.value_dim += kNormalizerTile;
}

NormalizedRecurrence::Scratch NormalizedRecurrence::LayOut(const Compute& compute,
                                                           ScratchArena& arena,
                                                           const StepSize& size) const {
  const int64_t head = int64_t{size.rows} * padded_.value_dim * DTypeBytes(compute.act);
  Scratch scratch;
  scratch.values = arena.Take(head * padded_.kv_heads);
  scratch.sums = arena.Take(head * padded_.heads);
  scratch.workspace =
      arena.Take(compute.device->GatedChunkWorkspaceBytes(padded_, size.segments, size.chunks));
  return scratch;
}

void NormalizedRecurrence::Run(const Compute& compute, const BatchView& batch,
                               const GatedOperands& operands, const Scratch& scratch,
                               const float* log_floor) const {
  const int32_t value_dim = padded_.value_dim - kNormalizerTile;
  compute.device->PadValues({.dtype = compute.act,
                             .rows = batch.rows,
                             .heads = padded_.kv_heads,
                             .dim = value_dim,
                             .v = operands.v,
                             .v_stride = operands.v_stride,
                             .out = scratch.values});
  GatedOperands padded = operands;
  padded.v = scratch.values;
  padded.v_stride = int64_t{padded_.kv_heads} * padded_.value_dim;
  padded.out = scratch.sums;
  RunRecurrence(compute, padded_, batch, padded, scratch.workspace);
  compute.device->Normalize({.dtype = compute.act,
                             .kind = kind_,
                             .rows = batch.rows,
                             .heads = padded_.heads,
                             .dim = value_dim,
                             .eps = eps_,
                             .x = scratch.sums,
                             .log_floor = log_floor,
                             .y = operands.out});
}

}  // namespace sluice
