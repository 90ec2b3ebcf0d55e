// Rows of a step that only fill up a batch, in a kernel.
#pragma once

#include "kernels/gated_step.h"
#include "kernels/pack.cuh"

namespace sluice {

// Whether the row has no state.
__device__ inline bool FillsUp(const GatedStepArgs& args, int32_t row) {
  return args.slots[row] == args.sink;
}

// Zeroes the outputs of a state head of such a row: thread `thread` of `threads` that do.
__device__ inline void ZeroOutputs(const GatedStepArgs& args, int32_t row, int32_t kv_head,
                                   int32_t thread, int32_t threads) {
  const GatedShape& s = args.shape;
  const int32_t group = s.heads / s.kv_heads;
  const int64_t first = (int64_t{row} * s.heads + int64_t{kv_head} * group) * s.value_dim;
  const int64_t bytes = DTypeBytes(s.dtype);
  auto* const out = reinterpret_cast<uint4*>(static_cast<char*>(args.operands.out) + first * bytes);
  const int64_t count = int64_t{group} * s.value_dim * bytes / 16;
  for (int64_t i = thread; i < count; i += threads) out[i] = make_uint4(0, 0, 0, 0);
}

}  // namespace sluice
