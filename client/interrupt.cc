#include "client/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <utility>

#include "client/command.h"

namespace sluice {
namespace {

constexpr int kStopSignal = SIGUSR1;  // from the destructor to the thread

sigset_t WatchedSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, kStopSignal);
  return signals;
}

}  // namespace

Interrupt::Interrupt() {
  const sigset_t signals = WatchedSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = std::thread([this] { WaitForSignals(); });
}

Interrupt::~Interrupt() {
  pthread_kill(thread_.native_handle(), kStopSignal);
  thread_.join();
}

void Interrupt::Watch(std::function<bool()> cancel) {
  const std::lock_guard<std::mutex> lock(mutex_);
  cancel_ = std::move(cancel);
}

void Interrupt::WaitForSignals() {
  const sigset_t signals = WatchedSignals();
  bool cancelled = false;
  for (;;) {
    int signal = 0;
    sigwait(&signals, &signal);
    if (signal == kStopSignal) return;
    std::function<bool()> cancel;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      cancel = cancel_;
    }
    if (cancelled || cancel == nullptr || !cancel()) _exit(kExitInterrupted);
    cancelled = true;
  }
}

}  // namespace sluice
