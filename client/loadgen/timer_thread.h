// Does things at their time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <queue>
#include <thread>
#include <vector>

namespace sluice {

// One thread that sleeps until the next time, by the steady clock: closer to it than gRPC's own
// timers, which count milliseconds. Thread-safe.
class TimerThread {
 public:
  TimerThread();
  ~TimerThread();
  TimerThread(const TimerThread&) = delete;
  TimerThread& operator=(const TimerThread&) = delete;

  // Calls `action` on the thread, which it must not hold up, at this time or soon after it. What is
  // not due yet when this is destroyed is not called.
  void At(int64_t due_ns, std::function<void()> action);

 private:
  struct Entry {
    int64_t due_ns;
    int64_t number;  // in the order of calls, for equal times
    std::function<void()> action;
    bool operator>(const Entry& other) const {
      return due_ns != other.due_ns ? due_ns > other.due_ns : number > other.number;
    }
  };

  void Run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> entries_;  // guarded by mutex_
  int64_t number_ = 0;                                                      // guarded by mutex_
  bool stopping_ = false;                                                   // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice
