// A sublayer whose arrays of a step lie in scratch memory. `Arrays` is a struct of pointers to
// them.
//
// LayOut alone says what a step takes: run over no memory it measures, and over the step's memory
// it fills in the pointers.
#pragma once

#include <cstdint>

#include "engine/layers/scratch_arena.h"
#include "engine/layers/sublayer.h"

namespace sluice {

template <typename Arrays>
class ScratchSublayer : public Sublayer {
 public:
  int64_t ScratchBytes(const StepSize& size) const final {
    ScratchArena arena;
    LayOut(arena, size);
    return arena.used();
  }

  void Forward(int32_t layer, const SublayerContext& context) final {
    ScratchArena arena = context.scratch;
    Run(layer, context, LayOut(arena, SizeOf(context.batch)));
  }

 protected:
  using Scratch = Arrays;

  // Takes the arrays of a step, which grow with its size.
  virtual Scratch LayOut(ScratchArena& arena, const StepSize& size) const = 0;
  // Forward with these arrays.
  virtual void Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) = 0;
};

}  // namespace sluice
