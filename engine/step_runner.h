// Runs a planned step on the device: one forward pass over the mixed batch, then the draws and
// log-probabilities that were asked for. Used by the engine thread alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/batch.h"
#include "engine/model.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/state_pool.h"
#include "engine/upload_arena.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

// What became known of one token.
struct TokenResult {
  Sequence* sequence;
  OutputToken token;
};

struct StepResults {
  std::vector<TokenResult> scored;  // prompt tokens, in the order of the plan's prefill parts
  std::vector<TokenResult> drawn;   // new tokens, of decode rows and then of prefill parts
};

class StepRunner {
 public:
  // Takes all memory that steps of up to `max_rows` rows need. ResourceExhausted. Model, pool and
  // device outlive the runner.
  static absl::StatusOr<std::unique_ptr<StepRunner>> Create(Device* device, Model* model,
                                                            StatePool* pool, int32_t max_rows);
  // Bytes that Create takes for `slots` slots, those of Model::Reserve included.
  static int64_t MemoryBytes(const Model& model, int32_t max_rows, int32_t slots);

  // Makes a slot ready for a sequence that was just given it.
  void Admit(const Sequence& sequence);

  // Runs the step and waits for it. Does not change the sequences.
  StepResults Run(const StepPlan& plan);

  // Runs one small prefill and one decode row, so that the first request pays for no lazy
  // initialisation. InvalidArgument if the weights make logits that are not finite.
  absl::Status WarmUp();

 private:
  // A batch row whose logits are needed: to draw (target -1), or for the log-probability of
  // `target`.
  struct LogitRow {
    int32_t row;
    Sequence* sequence;
    int32_t target;
  };

  // On the device, what a block of logit rows reads.
  struct LogitInputs {
    const int32_t* rows;
    const int32_t* targets;
    const SampleParams* params;  // of the rows to draw
    const TokenBias* biases;
  };
  // Where the parts of a block's output lie, on the device and on the host.
  struct OutputLayout {
    int64_t rows;
    int64_t first_draw;
    int64_t top_n;
    bool logprobs;

    int32_t* tokens(void* base) const { return static_cast<int32_t*>(base); }
    float* logprob(void* base) const { return static_cast<float*>(base) + rows; }
    int32_t* top_tokens(void* base) const { return tokens(base) + 2 * rows; }
    float* top_logprobs(void* base) const { return static_cast<float*>(base) + rows * (2 + top_n); }
    int64_t bytes() const { return logprobs ? rows * 8 * (1 + top_n) : rows * 4; }
  };

  StepRunner(Device* device, Model* model, StatePool* pool);
  absl::Status Reserve(int32_t max_rows);

  Batch MakeBatch(const StepPlan& plan, std::vector<LogitRow>* draws,
                  std::vector<LogitRow>* targets) const;
  void Forward(const Batch& batch, const std::vector<int32_t>& count_slots);
  std::vector<int32_t> CountSlots(const StepPlan& plan, const Batch& batch) const;
  void RunLogits(absl::Span<const LogitRow> rows, StepResults* results);
  LogitInputs UploadLogitRows(absl::Span<const LogitRow> rows, int32_t first_draw);
  static void Collect(absl::Span<const LogitRow> rows, const OutputLayout& layout, void* host,
                      StepResults* results);

  Device* device_;
  Model* model_;
  StatePool* pool_;
  UploadArena inputs_;
  DeviceBuffer counts_;   // uint32 [slots, vocab], for penalties
  DeviceBuffer logits_;   // float32 [kLogitRows, vocab]
  DeviceBuffer scratch_;  // float32 [kLogitRows, vocab]
  DeviceBuffer
      outputs_;  // of one block of logit rows: tokens, log-probabilities, top tokens, theirs
  std::vector<std::byte> host_outputs_;
};

}  // namespace sluice
