// grpc.health.v1's answer: SERVING while the engine steps, NOT_SERVING while it loads, is stuck or
// drains.
#pragma once

#include <grpcpp/health_check_service_interface.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "absl/time/time.h"
#include "engine/engine.h"

namespace sluice {

// Thread-safe. Begins as NOT_SERVING, for the server as a whole ("") and for each of its services.
class Health {
 public:
  // `service` outlives it.
  explicit Health(grpc::HealthCheckServiceInterface* service);
  ~Health();
  Health(const Health&) = delete;
  Health& operator=(const Health&) = delete;

  // SERVING from now on, except while one step has been running for more than `stuck_after`.
  // The engine outlives this, or the next StartDraining. Once.
  void StartServing(const Engine* engine, absl::Duration stuck_after);

  // NOT_SERVING for good; the engine is not looked at any more.
  void StartDraining();

 private:
  void Set(bool serving);
  void Watch(const Engine* engine, absl::Duration stuck_after);

  grpc::HealthCheckServiceInterface* const service_;
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread watcher_;
};

}  // namespace sluice
