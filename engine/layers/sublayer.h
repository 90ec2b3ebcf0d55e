// Half of a layer: what is added to the residual stream between one norm and the next.
//
//   x += sublayer(norm(x))
//
// Every model of the family is a stack of such steps: a mixer over time, most often followed by an
// MLP. One object serves all layers of a model; Load is called once for each, in order.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/batch.h"
#include "engine/layers/scratch_arena.h"
#include "engine/layers/step_size.h"
#include "engine/weight_loader.h"

namespace sluice {

// What a sublayer works on in one step.
struct SublayerContext {
  BatchView batch;
  const void* normed;    // [rows, D], the norm of x
  void* x;               // [rows, D], the residual stream, added to
  float* states;         // this layer's part of slot 0
  int64_t slot_stride;   // floats between slots
  ScratchArena scratch;  // over ScratchBytes of this batch's size, or more
};

class Sublayer {
 public:
  Sublayer() = default;
  Sublayer(const Sublayer&) = delete;
  Sublayer& operator=(const Sublayer&) = delete;
  virtual ~Sublayer() = default;

  // Grows with each of the three.
  virtual int64_t ScratchBytes(const StepSize& size) const = 0;
  // Reads the next layer's weights, whose names begin with `prefix` ("model.layers.3."). The errors
  // of WeightLoader.
  virtual absl::Status Load(WeightLoader* loader, const std::string& prefix) = 0;
  // Queues device work only. The states of the batch's slots move on by its tokens.
  virtual void Forward(int32_t layer, const SublayerContext& context) = 0;
};

}  // namespace sluice
