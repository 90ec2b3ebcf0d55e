#include "server/delivery_thread.h"

#include <utility>

namespace sluice {

DeliveryThread::DeliveryThread() : thread_([this] { Run(); }) {}

DeliveryThread::~DeliveryThread() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

void DeliveryThread::Post(std::shared_ptr<Deliverable> deliverable) {
  bool was_empty = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    was_empty = queue_.empty();
    queue_.push_back(std::move(deliverable));
  }
  if (was_empty) posted_.notify_one();
}

void DeliveryThread::Run() {
  std::vector<std::shared_ptr<Deliverable>> batch;
  while (true) {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      posted_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      batch.swap(queue_);
    }
    for (const auto& deliverable : batch) deliverable->Deliver();
    batch.clear();
  }
}

}  // namespace sluice
