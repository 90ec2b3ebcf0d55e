#include "client/loadgen/timer_thread.h"

#include <sys/prctl.h>

#include <chrono>
#include <utility>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {

TimerThread::TimerThread() : thread_([this] { Run(); }) {}

TimerThread::~TimerThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TimerThread::At(int64_t due_ns, std::function<void()> action) {
  bool first = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    first = entries_.empty() || due_ns < entries_.top().due_ns;
    entries_.push({due_ns, number_++, std::move(action)});
  }
  if (first) changed_.notify_all();
}

void TimerThread::Run() {
  prctl(PR_SET_TIMERSLACK, 1);  // nanoseconds; by default the kernel may sleep 50,000 longer
  std::unique_lock<std::mutex> lock(mutex_);
  while (!stopping_) {
    if (entries_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const int64_t due_ns = entries_.top().due_ns;
    if (MonotonicNs() < due_ns) {
      const auto due = std::chrono::steady_clock::time_point(std::chrono::nanoseconds(due_ns));
      changed_.wait_until(lock, due);
      continue;
    }
    const std::function<void()> action = entries_.top().action;
    entries_.pop();
    lock.unlock();
    action();
    lock.lock();
  }
}

}  // namespace sluice
