// Ctrl-C: the call under way is cancelled, so that the server stops its work at once.
#pragma once

#include <memory>
#include <mutex>
#include <thread>

#include "client/backend.h"

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

  // From now on cancels this backend's call.
  void Watch(const std::shared_ptr<Backend>& backend);

 private:
  void WaitForSignals();

  std::mutex mutex_;
  std::weak_ptr<Backend> backend_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace sluice
