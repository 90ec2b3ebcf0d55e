#include "client/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>

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

void Interrupt::Watch(const std::shared_ptr<Backend>& backend) {
  const std::lock_guard<std::mutex> lock(mutex_);
  backend_ = backend;
}

void Interrupt::WaitForSignals() {
  const sigset_t signals = WatchedSignals();
  bool cancelled = false;
  for (;;) {
    int signal = 0;
    sigwait(&signals, &signal);
    if (signal == kStopSignal) return;
    std::shared_ptr<Backend> backend;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      backend = backend_.lock();
    }
    if (cancelled || backend == nullptr || !backend->Cancel()) _exit(kExitInterrupted);
    cancelled = true;
  }
}

}  // namespace sluice
