// What every subcommand is made of: where it reads and writes, how it explains itself, how it ends.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "client/backend.h"
#include "client/options.h"

namespace sluice {

// Exit codes, as the help states them.
inline constexpr int kExitOk = 0;
inline constexpr int kExitError = 1;          // a call or a file failed
inline constexpr int kExitUsage = 2;          // the command line is wrong; nothing was done
inline constexpr int kExitInterrupted = 130;  // Ctrl-C, as shells count it

// The outside, exchanged by tests.
struct Environment {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  BackendFactory connect;
};

struct Invocation {
  absl::string_view name;
  absl::string_view synopsis;  // what follows the name
  absl::string_view about;     // sentences under the synopsis, in lines
  OptionTable options;
  std::vector<std::string> operands;              // filled by ParseOrExplain
  const ConnectionOptions* connection = nullptr;  // set by AddConnectionOptions
};

// Reads the command line, and checks that the connection options agree if there are any. If the
// command is over with that (help was asked for, or something is wrong and has been said), returns
// the exit code.
std::optional<int> ParseOrExplain(absl::Span<const std::string> args, Invocation* line,
                                  const Environment& environment);

// Says what is wrong with the command line; returns kExitUsage.
int UsageError(const Invocation& line, absl::string_view message, const Environment& environment);

// Says "sluice: CODE: message"; returns kExitError, or kExitInterrupted if it was cancelled.
int Fail(const absl::Status& status, const Environment& environment);

// kExitOk, unless what was printed could not be written.
int FinishOutput(const Environment& environment);

// Adds --server, --api-key-file, those of TLS, --local, --device, --dtype and --threads. `options`
// outlives the line.
void AddConnectionOptions(ConnectionOptions* options, Invocation* line);

int RunGenerate(absl::Span<const std::string> args, const Environment& environment);
int RunScore(absl::Span<const std::string> args, const Environment& environment);
int RunTokenize(absl::Span<const std::string> args, const Environment& environment);
int RunModel(absl::Span<const std::string> args, const Environment& environment);
int RunKey(absl::Span<const std::string> args, const Environment& environment);
int RunHealth(absl::Span<const std::string> args, const Environment& environment);

// The whole of `sluice`: args[0] names the subcommand. Returns the exit code.
int RunSluice(absl::Span<const std::string> args, const Environment& environment);

}  // namespace sluice
