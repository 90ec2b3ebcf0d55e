// One Generate call of a load, on a completion queue.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/support/async_stream.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/loadgen/load_stats.h"
#include "client/loadgen/request_plan.h"
#include "client/loadgen/request_record.h"
#include "client/loadgen/timer_thread.h"
#include "sluice/v1/generation.grpc.pb.h"

namespace sluice {

// What the calls of a run have in common.
struct CallOptions {
  absl::Duration deadline = absl::InfiniteDuration();  // from when a call is sent
  absl::Duration slow_pause = absl::Milliseconds(20);  // after each message of a slow reader
  std::string api_key;                                 // empty: none
  bool keep_output = false;                            // text and token ids, for the observer
};

// What a call begins with.
struct CallStart {
  RequestPlan plan;
  int64_t due_ns = 0;
  bool measured = false;
  int64_t user = -1;  // of a closed loop
};

// Begin on any thread, OnEvent on the one of the completion queue, Abandon on any. One operation is
// under way at a time, whose tag is the call.
class GenerateCall : public std::enable_shared_from_this<GenerateCall> {
 public:
  // All outlive the call.
  GenerateCall(const CallOptions* options, LoadStats* stats, TimerThread* timers, CallStart start);

  void Begin(v1::GenerationService::Stub* stub, grpc::CompletionQueue* queue);

  // The operation is over, as the queue said at `now_ns`. True if the call is over with it.
  bool OnEvent(bool ok, int64_t now_ns);

  // Cancels; the call then ends as kInterrupted, or with the error UNFINISHED.
  void Abandon(RequestEnd why);

  // Once it is over, on the queue's thread.
  const RequestPlan& plan() const { return plan_; }
  const RequestRecord& record() const { return record_; }
  int64_t user() const { return user_; }
  const std::string& text() const { return text_; }
  const std::vector<uint32_t>& token_ids() const { return token_ids_; }
  const std::optional<v1::Finished>& finished() const { return finished_; }

 private:
  enum class Step : uint8_t { kStarting, kReading, kPausing, kFinishing };

  void OnMessageLocked(int64_t now_ns);
  void CancelIfDueLocked();
  void ReadLocked();
  void PauseLocked(int64_t now_ns);
  void EndLocked(int64_t now_ns);
  void SetErrorLocked(const std::string& name, const std::string& message);

  const CallOptions* const options_;
  LoadStats* const stats_;
  TimerThread* const timers_;
  const int64_t user_;

  std::mutex mutex_;  // guards all below until the call is over
  RequestPlan plan_;
  RequestRecord record_;
  Step step_ = Step::kStarting;
  bool cancelled_ = false;  // on purpose
  std::optional<RequestEnd> abandoned_;
  std::string text_;
  std::vector<uint32_t> token_ids_;
  std::optional<v1::Finished> finished_;
  grpc::ClientContext context_;
  v1::GenerateResponse response_;
  grpc::Status status_;
  std::unique_ptr<grpc::ClientAsyncReader<v1::GenerateResponse>> reader_;
};

}  // namespace sluice
