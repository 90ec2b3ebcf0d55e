// One Score call: collects what the engine says of a text, and answers once.
#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/engine.h"
#include "server/active_calls.h"
#include "server/delivery_thread.h"

namespace sluice {

// Thread-safe. Shared by the engine and a reactor, which `finish` ends: it is called once, and then
// neither it nor the response is touched again.
class ScoreCall final : public Sink,
                        public Deliverable,
                        public std::enable_shared_from_this<ScoreCall> {
 public:
  ScoreCall(grpc::ByteBuffer* response, DeliveryThread* delivery,
            std::function<void(const grpc::Status&)> finish);

  // Whom to wake when the client leaves. Before the engine has the sink.
  void SetEngine(Engine* engine) { engine_.store(engine, std::memory_order_release); }

  void OnOutput(Output output) override;
  void OnDone(Outcome outcome) override;
  SinkState State() const override { return state_.load(std::memory_order_acquire); }

  void Refuse(const absl::Status& status) { FinishOnce(status); }
  void OnCancel();
  void Deliver() override;

 private:
  void FinishOnce(const absl::Status& status);

  grpc::ByteBuffer* const response_;
  DeliveryThread* const delivery_;
  const std::function<void(const grpc::Status&)> finish_;
  std::atomic<Engine*> engine_{nullptr};
  std::atomic<SinkState> state_{SinkState::kReady};

  std::mutex mutex_;  // guards all below
  std::vector<OutputToken> tokens_;
  Outcome outcome_;
  bool finished_ = false;
};

}  // namespace sluice
