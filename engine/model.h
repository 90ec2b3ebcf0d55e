// A language model on a device, written once for every device and family: embed, layers, norm,
// head.
//
// All memory is taken by Load and Reserve; Forward and Logits only queue device work. Used by the
// engine thread alone.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/architecture.h"
#include "engine/batch.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

class Model {
 public:
  // An unloaded model: it knows its sizes. `device` outlives it. Weights will be `matrix_dtype`
  // (float32 or bfloat16), and the matrices of states, but for a selective scan's, of `state`.
  // `float8`: projections' large matrices will be float8 instead (layers/projection.h), and the
  // rest bfloat16.
  Model(const ModelConfig& config, Device* device, DType matrix_dtype,
        const StateFormat& state = {}, bool float8 = false);

  // Reads all weights. NotFound / InvalidArgument name the tensor, and refuse tensors that this
  // architecture has no place for; ResourceExhausted if the device's memory is used up. `progress`
  // may be empty.
  absl::Status Load(const Checkpoint& checkpoint,
                    const std::function<void(const std::string&)>& progress);

  // Knows parameters() and weight_bytes() as after Load, without a checkpoint, and returns the
  // tensors that Load would read. Cannot run.
  std::vector<WeightPart> Measure();

  // InvalidArgument if states are to be rounded that must not be.
  absl::Status CheckStateType() const;

  // Takes buffers for steps of up to `max_rows` rows, at most `max_segments` of them segments.
  // ResourceExhausted.
  absl::Status Reserve(int32_t max_rows, int32_t max_segments);
  // Bytes that Reserve takes.
  int64_t BufferBytes(int32_t max_rows, int32_t max_segments) const;

  // Runs the batch: hidden states are kept for Logits, the states of its slots move on.
  // `states` is slot 0 of a pool of slots of SlotFloats() each.
  void Forward(const BatchView& batch, float* states);

  // logits[r, :] = head(norm(hidden of batch row rows[r])), capped if the family says so, float32
  // [count, vocab_size]; `rows` on the device, count <= kLogitRows.
  void Logits(const int32_t* rows, int32_t count, float* logits);

  // Rows of logits that are made at once: bounds the memory that a long scored text needs.
  static constexpr int32_t kLogitRows = 256;

  // Chunks that such a step can have.
  static int32_t MaxChunks(int32_t max_rows, int32_t max_segments);

  int64_t SlotFloats() const { return config_.num_layers * architecture_.layer_state.floats(); }
  const ModelConfig& config() const { return config_; }
  const Architecture& architecture() const { return architecture_; }
  // float8 if there are matrices that are.
  DType weight_dtype() const {
    return float8_elements_ > 0 ? DType::kFloat8 : compute_.matrix_dtype;
  }
  int64_t parameters() const { return parameters_; }
  int64_t weight_bytes() const { return weight_bytes_; }

 private:
  absl::Status LoadWeights(WeightLoader* loader);
  int64_t ScratchBytes(int32_t max_rows, int32_t max_segments) const;

  ModelConfig config_;
  Compute compute_;
  bool float8_;
  Architecture architecture_;
  std::vector<std::vector<NormLayer>> norms_;  // [layer][block]
  std::optional<NormLayer> embedding_norm_;
  NormLayer final_norm_;
  DeviceBuffer embedding_;  // matrix [vocab, D]
  DeviceBuffer head_;       // matrix [vocab, D]; empty if tied to the embedding
  DeviceBuffer residual_;   // [max_rows, D]
  DeviceBuffer normed_;     // [max_rows, D]
  DeviceBuffer picked_;     // [kLogitRows, D]
  DeviceBuffer scratch_;    // of one sublayer at a time
  int64_t parameters_ = 0;
  int64_t weight_bytes_ = 0;
  int64_t float8_elements_ = 0;
};

}  // namespace sluice
