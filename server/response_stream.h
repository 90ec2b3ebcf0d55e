// One request's way back to its client: what the engine says, in the pace at which the client
// reads.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "server/delivery_thread.h"
#include "server/pending_output.h"

namespace sluice {

// The calls of a gRPC write reactor that a stream makes.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;
  virtual void Write(const grpc::ByteBuffer* message) = 0;  // answered by OnWriteDone
  virtual void Finish(const grpc::Status& status) = 0;      // the last call
  // Fails a write that is under way; the client hears `why`.
  virtual void Cancel(const grpc::Status& why) = 0;
};

// Thread-safe. Shared by the engine and a writer: the writer lives until it has been told to
// Finish, and is not touched afterwards; the engine may hold its end for longer.
//
// At most one write is in flight, and what comes meanwhile is merged. Once kBacklogBytes wait, the
// sink is backlogged, so a client that does not read costs that much memory and two
// steps' output.
// When the engine is done, the client has `read_limit` to read the rest.
class ResponseStream final : public Sink,
                             public Deliverable,
                             public std::enable_shared_from_this<ResponseStream> {
 public:
  static constexpr size_t kBacklogBytes = size_t{64} << 10;

  struct Options {
    bool logprobs = false;
    absl::Duration read_limit = absl::Seconds(60);
  };

  ResponseStream(const Options& options, ResponseWriter* writer, DeliveryThread* delivery);

  // Whom to wake when the client reads again or leaves. Before the engine has the sink.
  void SetEngine(Engine* engine);

  // From the engine.
  void OnOutput(Output output) override;
  void OnDone(Outcome outcome) override;
  SinkState State() const override { return state_.load(std::memory_order_acquire); }

  // Ends a stream that the engine did not take.
  void Refuse(const absl::Status& status);

  // From gRPC.
  void OnWriteDone(bool ok);
  void OnCancel();

  // From the delivery thread.
  void Deliver() override;

  size_t pending_bytes() const;

 private:
  enum class Action { kNone, kWrite, kFinish };
  struct Next {
    Action action = Action::kNone;
    v1::GenerateResponse message;  // of kWrite
    bool wake = false;             // the engine: the client reads again, or has left
  };

  void PostLocked();
  Next NextLocked();
  void Perform(const Next& next);
  void UpdateStateLocked();
  void OnReadLimit();

  const Options options_;
  ResponseWriter* const writer_;
  DeliveryThread* const delivery_;
  std::atomic<Engine*> engine_{nullptr};
  std::atomic<SinkState> state_{SinkState::kReady};

  grpc::ByteBuffer in_flight_;  // of the write in flight: whoever claimed it

  mutable std::mutex mutex_;  // guards all below
  PendingOutput pending_;
  std::optional<grpc::Status> end_;  // how to finish, once nothing is pending
  bool writing_ = false;
  bool posted_ = false;
  bool cancelled_ = false;
  bool cancelling_ = false;             // Cancel is being called: the writer must not finish yet
  bool finished_ = false;               // the writer may be gone
  std::unique_ptr<grpc::Alarm> alarm_;  // the read limit
};

}  // namespace sluice
