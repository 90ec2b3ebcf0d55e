// The layers of one model family: their weights, their scratch memory, and one layer's forward
// pass.
//
// A family is one file under engine/models: its tensor names, how a layer turns x into q, k, v and
// gate, and the output back into x. Everything around the layers (embedding, final norm, head) is
// Model's.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/model_config.h"
#include "engine/weight_loader.h"
#include "kernels/device.h"

namespace sluice {

// What a layer works on in one step.
struct LayerContext {
  BatchView batch;
  void* x;              // [rows, D], the residual stream, read and written
  float* states;        // this layer's part of slot 0
  int64_t slot_stride;  // floats between slots
};

// For those who ask what a state is made of.
struct StateShape {
  int32_t heads;     // of queries
  int32_t kv_heads;  // of states
  int32_t key_dim;
  int32_t value_dim;
};

class LayerStack {
 public:
  virtual ~LayerStack() = default;

  virtual StateShape state_shape() const = 0;
  // Floats of one layer's state in a slot, a multiple of 64.
  virtual int64_t LayerStateFloats() const = 0;
  // Bytes that Reserve will take.
  virtual int64_t ScratchBytes(int32_t max_rows, int32_t max_chunks) const = 0;

  // Reads all layers. The errors of WeightLoader.
  virtual absl::Status Load(WeightLoader* loader) = 0;
  // Takes scratch memory for batches of up to `max_rows` rows and `max_chunks` chunks.
  // ResourceExhausted.
  virtual absl::Status Reserve(int32_t max_rows, int32_t max_chunks) = 0;
  // x = layer(x), and the states of the batch's slots move on by its tokens. Queues device work
  // only.
  virtual void Forward(int32_t layer, const LayerContext& context) = 0;
};

// The family that config.json's model_type names, for `device`, which outlives it, computing with
// weights of `matrix_dtype`.
std::unique_ptr<LayerStack> MakeLayerStack(const ModelConfig& config, Device* device,
                                           DType matrix_dtype);

}  // namespace sluice
