// Runs planned steps on the device: one forward pass over the mixed batch, then the draws and
// log-probabilities that were asked for. Used by the engine thread alone.
//
// A step that decodes alone is recorded once for each of some numbers of rows and played back (a
// CUDA graph): its batch is filled up with rows of the pool's sink to the next of these numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
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
#include "kernels/host_buffer.h"

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

  // Runs one small prefill and one decode row, so that the first request pays for no lazy
  // initialisation, and records steps. InvalidArgument if the weights make logits that are not
  // finite.
  absl::Status WarmUp();

  // Makes a slot ready for a sequence that was just given it.
  void Admit(const Sequence& sequence);

  // Begins a step that is not empty. Until Finish the plan stays where it is and its sequences as
  // they are.
  void Start(const StepPlan& plan);
  // Waits for the step that was begun.
  StepResults Finish();
  // The same for a step whose results nobody wants: if it has not begun, it never does.
  void Abandon();

 private:
  // A batch row whose logits are needed: for the log-probability of `target`, or to draw (target
  // -1).
  struct LogitRow {
    int32_t row;
    Sequence* sequence;  // null in a row that fills up
    int32_t target;
  };

  // On the device, what a step reads.
  struct Inputs {
    BatchView batch;
    const int32_t* count_slots;  // [rows], or null if no row marks a prompt token
    const int32_t* logit_rows;
    const int32_t* targets;      // of the logit rows to score
    const SampleParams* params;  // of the logit rows to draw
    const TokenBias* biases;
  };
  // Which logit rows are drawn, and where the parts of the output lie on the device and on the
  // host.
  struct OutputLayout {
    int64_t rows = 0;
    int64_t first_draw = 0;
    int64_t top_n = 0;
    bool logprobs = false;

    int32_t* tokens(void* base) const { return static_cast<int32_t*>(base); }
    float* logprob(void* base) const { return static_cast<float*>(base) + rows; }
    int32_t* top_tokens(void* base) const { return tokens(base) + 2 * rows; }
    float* top_logprobs(void* base) const { return static_cast<float*>(base) + rows * (2 + top_n); }
    int64_t bytes() const { return logprobs ? rows * 8 * (1 + top_n) : rows * 4; }
  };

  StepRunner(Device* device, Model* model, StatePool* pool);
  absl::Status Reserve(int32_t max_rows);

  Batch MakeBatch(const StepPlan& plan);
  void FillUp(int32_t rows, Batch* batch);
  void LayOutOutput();
  std::vector<int32_t> CountSlots(const StepPlan& plan) const;
  Inputs Upload(const Batch& batch, const std::vector<int32_t>& count_slots);
  void Queue(const StepPlan& plan);
  void Forward(const Inputs& inputs);
  void DrawBlock(const Inputs& inputs, int64_t begin, int64_t end);
  void LogprobsBlock(int64_t begin, int64_t end);
  void RecordDecodes();

  Device* device_;
  Model* model_;
  StatePool* pool_;
  UploadArena inputs_;
  DeviceBuffer counts_;   // uint32 [slots, vocab], for penalties
  DeviceBuffer logits_;   // float32 [kLogitRows, vocab]
  DeviceBuffer scratch_;  // float32 [kLogitRows, vocab]
  DeviceBuffer outputs_;  // of the step's logit rows, see OutputLayout
  HostBuffer host_outputs_;
  std::map<int32_t, std::unique_ptr<Recording>> decodes_;  // by rows

  // Of the step that was begun.
  const StepPlan* plan_ = nullptr;
  std::vector<LogitRow> logit_rows_;  // those to draw come last
  OutputLayout layout_;
};

}  // namespace sluice
