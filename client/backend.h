// Where the work is done: a server, or this process. The commands know no difference.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/tls_options.h"
#include "engine/engine.h"
#include "engine/engine_config.h"
#include "engine/request.h"

namespace sluice {

struct ModelDescription {
  EngineInfo info;
  std::string version;  // of the server, or of this program
};

// One call at a time, from one thread; Cancel from any. Errors carry the codes that
// proto/sluice/v1 documents, whichever the backend.
class Backend {
 public:
  virtual ~Backend() = default;

  // Runs a request of either kind, and returns how it ended once all of its output has been handed
  // to `on_output`. For kScore the prompt's tokens are the output.
  virtual absl::StatusOr<Outcome> Run(const Request& request,
                                      const std::function<void(const Output&)>& on_output) = 0;

  virtual absl::StatusOr<std::vector<int32_t>> Tokenize(const std::string& text,
                                                        bool special_tokens) = 0;
  virtual absl::StatusOr<std::string> Detokenize(absl::Span<const int64_t> ids,
                                                 bool keep_special_tokens) = 0;
  virtual absl::StatusOr<ModelDescription> Describe() = 0;

  // Ends the Run that is under way with Cancelled. False if there is none.
  virtual bool Cancel() = 0;
};

// What the command line says about where to work.
struct ConnectionOptions {
  std::string server;  // empty: 127.0.0.1:50051
  TlsOptions tls;
  std::string local;         // a model directory: work in this process
  std::string api_key_file;  // what to show the server; empty: nothing
  // With `local` alone; empty or unset: as EngineConfig says.
  std::string device;
  std::string dtype;
  std::optional<int64_t> threads;
};

// Says what contradicts itself in the options; empty if nothing does.
std::string CheckConnection(const ConnectionOptions& options);

// The engine that the options ask for in this process. InvalidArgument for threads out of range.
absl::StatusOr<EngineConfig> LocalConfig(const ConnectionOptions& options);

using BackendFactory =
    std::function<absl::StatusOr<std::shared_ptr<Backend>>(const ConnectionOptions&)>;

// A RemoteBackend or a LocalBackend, as the options say. Neither connects nor loads anything yet.
absl::StatusOr<std::shared_ptr<Backend>> MakeBackend(const ConnectionOptions& options);

}  // namespace sluice
