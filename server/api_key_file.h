// The keys in force: those of a file, read anew whenever it changes.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/api_keys.h"
#include "server/file_watch.h"

namespace sluice {

// Thread-safe.
class ApiKeyFile {
 public:
  // Told how many keys a changed file holds, or why it was not taken.
  using Listener = std::function<void(const absl::StatusOr<size_t>&)>;

  // Reads `path` now, and then again when a look at it every `interval` finds it changed. A file
  // that cannot be read or is not valid then leaves the keys as they were. Not OK: why there are no
  // keys to begin with.
  static absl::StatusOr<std::unique_ptr<ApiKeyFile>> Open(const std::string& path,
                                                          absl::Duration interval,
                                                          Listener listener);

  std::shared_ptr<const ApiKeys> Current() const;

 private:
  ApiKeyFile(std::string path, Listener listener);

  absl::StatusOr<size_t> Read();

  const std::string path_;
  const Listener listener_;
  std::mutex reading_;  // of two that read, the later one has the last word
  mutable std::mutex mutex_;
  std::shared_ptr<const ApiKeys> current_;  // guarded by mutex_
  std::unique_ptr<FileWatch> watch_;        // last: its thread uses the rest
};

}  // namespace sluice
