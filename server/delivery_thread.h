// The thread that takes output from the engine's sinks to gRPC.
//
// Serialising a message and starting its write takes about as long as a small model's step takes a
// row, and may send on the socket at once; the engine thread only appends and moves on.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace sluice {

class Deliverable {
 public:
  virtual ~Deliverable() = default;
  // Called on the delivery thread, once for each Post. Must not wait.
  virtual void Deliver() = 0;
};

// Thread-safe. Outlives whoever posts to it.
class DeliveryThread {
 public:
  DeliveryThread();
  // Delivers what was posted, and ends the thread.
  ~DeliveryThread();
  DeliveryThread(const DeliveryThread&) = delete;
  DeliveryThread& operator=(const DeliveryThread&) = delete;

  // Does not wait. The queue is bounded by its users: each posts itself again only once delivered.
  void Post(std::shared_ptr<Deliverable> deliverable);

 private:
  void Run();

  std::mutex mutex_;
  std::condition_variable posted_;
  std::vector<std::shared_ptr<Deliverable>> queue_;  // guarded by mutex_
  bool stopping_ = false;                            // guarded by mutex_
  std::thread thread_;                               // last: it uses the rest
};

}  // namespace sluice
