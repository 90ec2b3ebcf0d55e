// A tiny model in float32 on a device of the test's own, without an engine around it: one sequence,
// whose tokens the test says.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/model.h"
#include "engine/state_pool.h"
#include "engine/upload_arena.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"
#include "tests/engine/tiny_family.h"

namespace sluice {

class TinyRun {
 public:
  static constexpr int32_t kMaxTokens = Model::kLogitRows;  // of a prefill

  // Ends the process if the model does not load. `device` outlives the run.
  TinyRun(const TinyFamilyModel& model, Device* device);

  // The next tokens of the sequence in one step, and the next one alone.
  void Prefill(const std::vector<int32_t>& tokens);
  void Decode(int32_t token);

  // Log-probabilities of what follows each token of the last step, [tokens, vocabulary].
  std::vector<float> Logprobs();

  // Of the sequence, all layers.
  std::vector<float> State() const;

 private:
  Device* device_;
  Model model_;
  std::unique_ptr<StatePool> pool_;
  UploadArena inputs_;  // of the step, then of its logits
  DeviceBuffer logits_;
  int32_t slot_ = -1;
  int32_t position_ = 0;
  int32_t rows_ = 0;  // of the last step
};

}  // namespace sluice
