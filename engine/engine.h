// The engine: a model on a device, a bounded queue in front of it, and the one thread that runs it.
//
// A step is: plan (which sequences, which tokens), run (one forward pass over the mixed batch, and
// the draws), deliver (text and tokens to the sinks). What a step drew decides the next one, stop
// strings included, before that is planned; what it has for the sinks is delivered while the next
// one runs. Nothing but the engine thread touches the device.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine_config.h"
#include "engine/live_request.h"
#include "engine/request.h"
#include "engine/tokenizer.h"

namespace sluice {

// The model and what this engine accepts: constant from start on.
struct EngineInfo {
  std::string model_name;
  std::string model_type;
  std::string device;        // for people
  std::string weight_dtype;  // "bfloat16", "float32", or "float8_e4m3" if large matrices are that
  int64_t parameters = 0;
  int64_t state_bytes = 0;  // one slot
  // Of the device's memory, all of it taken at start, beside what the device takes for itself: a
  // library's workspace, recorded steps.
  int64_t weight_bytes = 0;
  int64_t pool_bytes = 0;    // all slots
  int64_t buffer_bytes = 0;  // of steps
  int32_t hidden_size = 0;
  int32_t num_layers = 0;
  int32_t vocab_size = 0;
  int32_t num_heads = 0;
  int32_t num_kv_heads = 0;
  int32_t head_key_dim = 0;
  int32_t head_value_dim = 0;
  std::vector<int32_t> eos_token_ids;
  int32_t state_slots = 0;
  int32_t max_waiting = 0;
  int32_t max_prompt_tokens = 0;
  int32_t max_output_tokens = 0;
  int64_t max_text_bytes = 0;
  int32_t max_step_tokens = 0;
};

struct StepRecord {
  double seconds = 0;
  int32_t decode_rows = 0;
  int32_t prefill_rows = 0;
  int32_t output_tokens = 0;  // drawn in this step
};

// Told of what happens; must not hold the caller up. OnDone comes from any thread, the others from
// the engine's.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepRecord& record) = 0;
  virtual void OnFirstToken(double seconds_since_arrival) = 0;
  virtual void OnNextToken(double seconds_since_previous) = 0;
  // Every request once, also those that Submit refused.
  virtual void OnDone(const Outcome& outcome) = 0;
};

struct EngineGauges {
  int32_t running = 0;  // hold a slot
  int32_t waiting = 0;
  int64_t waiting_tokens = 0;  // of the prompts of those that wait
  int32_t slots_used = 0;
  int32_t slots_total = 0;
};

class Engine {
 public:
  // Loads the model and takes all device memory. `progress`, if any, is told what is done, for
  // people. `observer` may be null, and outlives the engine.
  //
  // NotFound / InvalidArgument: the model directory, naming the file and what is wrong with it.
  // ResourceExhausted: not enough memory for weights, buffers and one slot; says how much is needed
  // and what there is. FailedPrecondition: the device that was asked for is not there.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(
      const EngineConfig& config, EngineObserver* observer,
      const std::function<void(const std::string&)>& progress);

  // Ends what still runs with Unavailable, and joins the thread.
  virtual ~Engine() = default;

  virtual const EngineInfo& info() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;

  // Checks and queues a request. Thread-safe; never waits. If not OK, the sink is not called.
  //
  // InvalidArgument: names the field and the limit. ResourceExhausted: the queue is full, by
  // requests or by the tokens of their prompts. Unavailable: draining. DeadlineExceeded: the
  // deadline has passed already.
  virtual absl::Status Submit(Request request, std::shared_ptr<Sink> sink) = 0;

  // Has the engine look at its sinks again. Thread-safe, cheap.
  virtual void Wake() = 0;

  // Refuses new requests from now on. Thread-safe.
  virtual void StartDraining() = 0;
  // Waits until nothing runs or waits, at most until `deadline`; what is left then is ended with
  // FinishReason::kCancelled. Returns whether everything ended by itself.
  virtual bool FinishDraining(absl::Time deadline) = 0;

  // Has every request of this id end with Aborted. Thread-safe; does not wait. How many there are:
  // one that ends at this moment may end well.
  virtual int32_t CancelRequests(const std::string& id) = 0;
  // What runs and waits, the oldest first. Thread-safe.
  virtual std::vector<LiveRequestState> LiveRequests() const = 0;

  virtual EngineGauges Gauges() const = 0;  // thread-safe
  // How long the engine's thread has been at one turn: to wait for a step, plan, start the next and
  // deliver; zero while there is nothing to run. Thread-safe: what health checks look at.
  virtual absl::Duration StepAge() const = 0;
};

}  // namespace sluice
