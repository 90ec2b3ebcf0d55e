// Everything that is loaded at start and lives as long as the engine: device, model, states,
// buffers.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/engine_config.h"
#include "engine/model.h"
#include "engine/state_pool.h"
#include "engine/step_runner.h"
#include "engine/tokenizer.h"
#include "kernels/device.h"

namespace sluice {

struct Runtime {
  std::unique_ptr<Device> device;  // first, since it outlives the rest
  std::unique_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<Model> model;
  std::unique_ptr<StatePool> pool;
  std::unique_ptr<StepRunner> runner;
  EngineInfo info;

  // Gives back all that is the device's, on the thread that it belongs to.
  void ReleaseDevice() {
    runner.reset();
    pool.reset();
    model.reset();
    device.reset();
  }
};

// Opens the device, reads the model and takes all memory, on the calling thread, which the device
// then belongs to. Errors as Engine::Create.
absl::StatusOr<Runtime> LoadRuntime(const EngineConfig& config,
                                    const std::function<void(const std::string&)>& progress);

}  // namespace sluice
