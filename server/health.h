// grpc.health.v1's answer: SERVING while the engine steps, NOT_SERVING while it loads, is stuck or
// drains.
#pragma once

#include <grpcpp/health_check_service_interface.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "engine/engine.h"

namespace sluice {

enum class HealthState : uint8_t { kLoading, kServing, kStuck, kDraining };

// Thread-safe. Begins as NOT_SERVING, for the server as a whole ("") and for each of its services.
class Health {
 public:
  // `service` outlives it.
  explicit Health(grpc::HealthCheckServiceInterface* service);
  ~Health();
  Health(const Health&) = delete;
  Health& operator=(const Health&) = delete;

  // Gives the same answer on another server too, from now until it is removed.
  void Add(grpc::HealthCheckServiceInterface* service);
  void Remove(grpc::HealthCheckServiceInterface* service);

  // SERVING from now on, except while one step has been running for more than `stuck_after`.
  // The engine outlives this, or the next StartDraining. Once.
  void StartServing(const Engine* engine, absl::Duration stuck_after);

  // What the answer is made from.
  HealthState state() const { return state_; }
  bool serving() const { return state_ == HealthState::kServing; }

  // NOT_SERVING for good; the engine is not looked at any more.
  void StartDraining();

 private:
  void Set(HealthState state);
  void Watch(const Engine* engine, absl::Duration stuck_after);

  std::atomic<HealthState> state_{HealthState::kLoading};
  std::mutex services_mutex_;  // the last to hold it sets what the services say
  std::vector<grpc::HealthCheckServiceInterface*> services_;  // guarded by services_mutex_
  std::mutex mutex_;
  std::condition_variable stopped_;
  bool stopping_ = false;  // guarded by mutex_
  std::thread watcher_;
};

}  // namespace sluice
