// A completion queue, the thread that serves it, and the calls on it.
#pragma once

#include <grpcpp/completion_queue.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/loadgen/generate_call.h"
#include "client/loadgen/server_channels.h"

namespace sluice {

// Hears of calls that are over, on the threads of the workers.
class CallListener {
 public:
  virtual ~CallListener() = default;
  virtual void OnCallEnd(const GenerateCall& call) = 0;
};

// Thread-safe. Destroyed when no call is left.
class CallWorker {
 public:
  // All outlive it. The calls go over the channels in turn, those of slow readers over their own if
  // there are any.
  CallWorker(const CallOptions* options, TimerThread* timers, CallListener* listener,
             const LoadChannels& channels, LoadStats* stats);
  ~CallWorker();
  CallWorker(const CallWorker&) = delete;
  CallWorker& operator=(const CallWorker&) = delete;

  void Start(CallStart start);
  // Ends the calls that are under way.
  void AbandonAll(RequestEnd why);

 private:
  using Stubs = std::vector<std::unique_ptr<v1::GenerationService::Stub>>;

  static Stubs StubsOf(const std::vector<std::shared_ptr<grpc::Channel>>& channels);
  void Run();
  std::shared_ptr<GenerateCall> Find(GenerateCall* call);
  void Forget(GenerateCall* call);

  const CallOptions* const options_;
  TimerThread* const timers_;
  CallListener* const listener_;
  LoadStats* const stats_;
  const Stubs stubs_;
  const Stubs slow_stubs_;
  std::atomic<size_t> next_stub_{0};
  grpc::CompletionQueue queue_;
  std::mutex mutex_;
  absl::flat_hash_map<GenerateCall*, std::shared_ptr<GenerateCall>> calls_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice
