#include "client/loadgen/call_worker.h"

#include <utility>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {

CallWorker::CallWorker(const CallOptions* options, TimerThread* timers, CallListener* listener,
                       const LoadChannels& channels, LoadStats* stats)
    : options_(options),
      timers_(timers),
      listener_(listener),
      stats_(stats),
      stubs_(StubsOf(channels.usual)),
      slow_stubs_(StubsOf(channels.slow)) {
  thread_ = std::thread([this] { Run(); });
}

CallWorker::Stubs CallWorker::StubsOf(const std::vector<std::shared_ptr<grpc::Channel>>& channels) {
  Stubs stubs;
  for (const auto& channel : channels) {
    stubs.push_back(std::make_unique<v1::GenerationService::Stub>(channel));
  }
  return stubs;
}

CallWorker::~CallWorker() {
  queue_.Shutdown();
  thread_.join();
}

void CallWorker::Start(CallStart start) {
  const bool slow = start.plan.kind == LoadKind::kSlow && !slow_stubs_.empty();
  const Stubs& stubs = slow ? slow_stubs_ : stubs_;
  auto call = std::make_shared<GenerateCall>(options_, stats_, timers_, std::move(start));
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    calls_.emplace(call.get(), call);
  }
  const size_t at = next_stub_.fetch_add(1, std::memory_order_relaxed) % stubs.size();
  call->Begin(stubs[at].get(), &queue_);
}

void CallWorker::AbandonAll(RequestEnd why) {
  std::vector<std::shared_ptr<GenerateCall>> calls;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [pointer, call] : calls_) calls.push_back(call);
  }
  for (const std::shared_ptr<GenerateCall>& call : calls) call->Abandon(why);
}

void CallWorker::Run() {
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) {
    const int64_t now_ns = MonotonicNs();
    const std::shared_ptr<GenerateCall> call = Find(static_cast<GenerateCall*>(tag));
    if (!call->OnEvent(ok, now_ns)) continue;
    Forget(call.get());
    listener_->OnCallEnd(*call);
  }
}

std::shared_ptr<GenerateCall> CallWorker::Find(GenerateCall* call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  return calls_.at(call);
}

void CallWorker::Forget(GenerateCall* call) {
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_.erase(call);
}

}  // namespace sluice
