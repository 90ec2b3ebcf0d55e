// Calls of a device's ops as one piece of work, so that what is timed is the device and not the
// host that queues them.
#pragma once

#include <functional>
#include <memory>

#include "kernels/device.h"

namespace sluice {

class QueuedCalls {
 public:
  // Takes down what `calls` queues: on CUDA as a graph, once and without running it, elsewhere as
  // it is. It may call ops, Copy and Zero.
  static std::unique_ptr<QueuedCalls> Record(Device& device, std::function<void()> calls);
  // Leaves them as they are, one by one, everywhere.
  static std::unique_ptr<QueuedCalls> Plain(std::function<void()> calls);
  QueuedCalls() = default;
  QueuedCalls(const QueuedCalls&) = delete;
  QueuedCalls& operator=(const QueuedCalls&) = delete;
  virtual ~QueuedCalls() = default;

  // Queues them all, or does them.
  virtual void Run() = 0;
};

}  // namespace sluice
