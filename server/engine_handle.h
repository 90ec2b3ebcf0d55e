// Where the services find the engine, which is loaded after they began to listen.
#pragma once

#include <atomic>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine.h"

namespace sluice {

// Thread-safe.
class EngineHandle {
 public:
  // Once. The engine outlives every call of the services.
  void Set(Engine* engine) { engine_.store(engine, std::memory_order_release); }

  // Unavailable while the model is being loaded.
  absl::StatusOr<Engine*> Get() const {
    Engine* engine = engine_.load(std::memory_order_acquire);
    if (engine != nullptr) return engine;
    return absl::UnavailableError("the server is loading its model; try another replica or later");
  }

 private:
  std::atomic<Engine*> engine_{nullptr};
};

}  // namespace sluice
