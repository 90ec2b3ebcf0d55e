// The gated recurrence with a normaliser: a column of ones beside the values makes the state sum
// the keys as well, and the output is divided by what a query reads of that sum.
//
//   o_t = scale q_t S_t / (scale q_t n_t^T + eps),  n summed like S, of keys alone
//
// is kSum; kernels/normalizer.h has both kinds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/batch.h"
#include "engine/layers/compute.h"
#include "engine/layers/scratch_arena.h"
#include "engine/layers/step_size.h"
#include "kernels/gated_shape.h"
#include "kernels/normalizer.h"

namespace sluice {

class NormalizedRecurrence {
 public:
  struct Scratch {
    std::byte* values;     // [rows, kv_heads, V + 16]
    std::byte* sums;       // [rows, heads, V + 16]
    std::byte* workspace;  // of GatedChunk
  };

  NormalizedRecurrence() = default;
  // `shape` is that of the values alone.
  NormalizedRecurrence(GatedShape shape, NormalizeKind kind, float eps);

  // Units of 4 bytes of a layer's state.
  int64_t StateFloats() const { return padded_.StateFloats(); }
  Scratch LayOut(const Compute& compute, ScratchArena& arena, const StepSize& size) const;

  // As RunRecurrence: `operands` are of the values alone, their states of StateFloats() each.
  // `log_floor`, [rows, heads], is of kMlstm.
  void Run(const Compute& compute, const BatchView& batch, const GatedOperands& operands,
           const Scratch& scratch, const float* log_floor = nullptr) const;

 private:
  GatedShape padded_{};  // with the tile of the normaliser
  NormalizeKind kind_ = NormalizeKind::kSum;
  float eps_ = 0;
};

}  // namespace sluice
