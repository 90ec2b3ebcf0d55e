// Ctrl-C: what is under way is cancelled, so that the server stops its work at once.
#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace sluice {

// Made before any other thread, since it blocks SIGINT and SIGTERM in them all and waits for them
// in one of its own. Where there is no call to cancel, or at the second Ctrl-C, the process ends
// with kExitInterrupted.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // From now on calls this, from a thread of its own. False: there was no call to cancel.
  void Watch(std::function<bool()> cancel);

 private:
  void WaitForSignals();

  std::mutex mutex_;
  std::function<bool()> cancel_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice
