// One line that says how far a load is.
#pragma once

#include <functional>
#include <iosfwd>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "absl/synchronization/notification.h"
#include "client/loadgen/load_run.h"

namespace sluice {

// "warm-up 1/2 s | ..." at `now_ns`, without an end of line.
std::string ProgressText(const LoadProgress& progress, int64_t now_ns);

// Writes the line again and again from a thread of its own, as long as it lives: over itself where
// `terminal`, else a line each. `run` outlives it.
class ProgressLine {
 public:
  ProgressLine(const LoadRun* run, bool terminal, std::ostream* out);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

 private:
  void Run();

  const LoadRun* const run_;
  const bool terminal_;
  std::ostream* const out_;
  absl::Notification over_;
  std::thread thread_;
};

}  // namespace sluice
