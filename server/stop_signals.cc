#include "server/stop_signals.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "server/log.h"

namespace sluice {
namespace {

sigset_t Signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

[[noreturn]] void ExitAtOnce(int code) {
  StopLogging();
  _exit(code);
}

}  // namespace

StopSignals::StopSignals() {
  const sigset_t signals = Signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  thread_ = std::thread([this] { Run(); });
}

StopSignals::~StopSignals() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  // Wakes sigwait; the signal is blocked, so it ends nothing.
  pthread_kill(thread_.native_handle(), SIGINT);
  thread_.join();
}

void StopSignals::SetExitAtOnce(bool exit_at_once) {
  const std::lock_guard<std::mutex> lock(mutex_);
  exit_at_once_ = exit_at_once;
}

void StopSignals::Wait() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return signalled_ || stopped_; });
}

void StopSignals::Stop() {
  const std::lock_guard<std::mutex> lock(mutex_);
  stopped_ = true;
  changed_.notify_all();
}

void StopSignals::Run() {
  const sigset_t signals = Signals();
  while (true) {
    int signal = 0;
    sigwait(&signals, &signal);
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      if (stopping_) return;
    }
    OnSignal(signal);
  }
}

void StopSignals::OnSignal(int signal) {
  const std::lock_guard<std::mutex> lock(mutex_);
  Log(LogLevel::kInfo, "signal", LogFields().Add("name", signal == SIGTERM ? "SIGTERM" : "SIGINT"));
  if (signalled_) ExitAtOnce(1);
  if (exit_at_once_) ExitAtOnce(0);
  signalled_ = true;
  changed_.notify_all();
}

}  // namespace sluice
