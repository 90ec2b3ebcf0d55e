// SIGTERM and SIGINT, taken by a thread of their own instead of by handlers.
#pragma once

#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/time/time.h"

namespace sluice {

// The first signal is what Wait waits for; the second ends the process at once with code 1. Create
// it before any other thread, which inherit that the signals are blocked.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // While set, the first signal already ends the process, with code 0: nothing runs that could be
  // finished. For the time in which the model is loaded.
  void SetExitAtOnce(bool exit_at_once);

  void Wait();

  // Ends Wait as the first signal does. A signal after it is still the first: it ends nothing more.
  void Stop();

 private:
  void Run();
  void OnSignal(int signal);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool signalled_ = false;     // guarded by mutex_
  bool stopped_ = false;       // guarded by mutex_: by Stop
  bool exit_at_once_ = false;  // guarded by mutex_
  bool stopping_ = false;      // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice
