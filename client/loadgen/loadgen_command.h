// The whole of `sluice-loadgen`.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "absl/types/span.h"

namespace sluice {

// Beside those of client/command.h.
inline constexpr int kExitErrors = 3;  // with --fail-on-errors: there were some

// The outside, exchanged by tests.
struct LoadgenEnvironment {
  std::ostream& out;
  std::ostream& err;
  bool terminal = false;  // whether err is one
  // Is given, once the server has answered, what ends the load early; it can be called at any time
  // from any thread.
  std::function<void(std::function<void()>)> on_interrupt;
};

// Returns the exit code.
int RunLoadgen(absl::Span<const std::string> args, const LoadgenEnvironment& environment);

}  // namespace sluice
