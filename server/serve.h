// A server's life: listen, load, serve, drain.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/server_config.h"

namespace sluice {

// Engine::Create, or what stands in for it in a test.
using EngineFactory = std::function<absl::StatusOr<std::unique_ptr<Engine>>(
    const EngineConfig&, EngineObserver*, const std::function<void(const std::string&)>& progress)>;

// Serves until SIGTERM or SIGINT. Blocks. Called before any thread is started, once in a process.
// Not OK: what kept it from starting; the ports are had before anything is loaded.
absl::Status Serve(const ServerConfig& config, const EngineFactory& create_engine);

// What main does: the process's exit code.
int ServerMain(int argc, char** argv, const EngineFactory& create_engine);

}  // namespace sluice
