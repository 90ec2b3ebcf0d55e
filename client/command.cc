#include "client/command.h"

#include <array>
#include <ostream>

#include "absl/strings/str_cat.h"

namespace sluice {
namespace {

struct Subcommand {
  absl::string_view name;
  absl::string_view summary;
  int (*run)(absl::Span<const std::string>, const Environment&);
};

constexpr std::array<Subcommand, 6> kSubcommands = {{
    {"generate", "stream the completion of a prompt", RunGenerate},
    {"score", "log-probabilities of a text's tokens", RunScore},
    {"tokenize", "text to token ids, and back", RunTokenize},
    {"model", "what is served, its sizes and its limits", RunModel},
    {"key", "a new API key, and its entry in the server's key file", RunKey},
    {"health", "whether a server serves, for scripts and probes", RunHealth},
}};

constexpr absl::string_view kExitCodes =
    "\nExit codes: 0 done; 1 a call or a file failed, with the code's name on stderr;\n"
    "2 the command line is wrong; 130 interrupted (Ctrl-C).\n";

void PrintOverview(std::ostream& out) {
  out << "Usage: sluice COMMAND [OPTION...] [OPERAND...]\n\n"
         "Talks to a Sluice server, or works on a model directory in this process.\n\n"
         "Commands:\n";
  for (const Subcommand& command : kSubcommands) {
    std::string name(command.name);
    name.resize(12, ' ');
    out << "  " << name << command.summary << "\n";
  }
  out << "\n`sluice COMMAND --help` explains a command; `sluice --version` prints the version.\n"
      << kExitCodes;
}

}  // namespace

std::optional<int> ParseOrExplain(absl::Span<const std::string> args, Invocation* line,
                                  const Environment& environment) {
  if (AsksForHelp(args)) {
    environment.out << "Usage: sluice " << line->name << " " << line->synopsis << "\n\n"
                    << line->about << "\n"
                    << line->options.Help() << kExitCodes;
    return FinishOutput(environment);
  }
  const absl::Status status = line->options.Parse(args, &line->operands);
  if (!status.ok()) return UsageError(*line, status.message(), environment);
  if (line->connection == nullptr) return std::nullopt;
  const std::string problem = CheckConnection(*line->connection);
  if (!problem.empty()) return UsageError(*line, problem, environment);
  return std::nullopt;
}

int UsageError(const Invocation& line, absl::string_view message, const Environment& environment) {
  environment.err << "sluice " << line.name << ": " << message << "\nTry `sluice " << line.name
                  << " --help`.\n";
  return kExitUsage;
}

int Fail(const absl::Status& status, const Environment& environment) {
  environment.err << "sluice: " << absl::StatusCodeToString(status.code()) << ": "
                  << status.message() << "\n";
  return status.code() == absl::StatusCode::kCancelled ? kExitInterrupted : kExitError;
}

int FinishOutput(const Environment& environment) {
  environment.out.flush();
  if (environment.out) return kExitOk;
  environment.err << "sluice: the output could not be written\n";
  return kExitError;
}

void AddConnectionOptions(ConnectionOptions* options, Invocation* line) {
  line->connection = options;
  OptionTable& table = line->options;
  table.Section("Where");
  table.Text("server", "HOST:PORT", &options->server, "Server to call. Default: 127.0.0.1:50051.");
  table.Text("api-key-file", "FILE", &options->api_key_file,
             "File that holds the API key to show the server. Default: none is shown.");
  AddTlsOptions(&options->tls, &table);
  table.Text("local", "DIR", &options->local,
             "Work in this process, on this Hugging Face model directory, without a server.");
  table.Text("device", "NAME", &options->device,
             "With --local: auto (a GPU if there is one), cpu, cuda or cuda:N. Default: auto.");
  table.Text("dtype", "NAME", &options->dtype,
             "With --local: weights in auto (bfloat16), bfloat16 or float32. Default: auto.");
  table.Integer("threads", "N", &options->threads,
                "With --local: CPU threads. Default: as many as there are.");
}

int RunSluice(absl::Span<const std::string> args, const Environment& environment) {
  if (args.empty()) {
    PrintOverview(environment.err);
    return kExitUsage;
  }
  for (const Subcommand& command : kSubcommands) {
    if (args[0] == command.name) return command.run(args.subspan(1), environment);
  }
  if (args[0] == "--version") {
    environment.out << "sluice " << SLUICE_VERSION << "\n";
    return FinishOutput(environment);
  }
  if (args[0] == "help" || AsksForHelp(args.subspan(0, 1))) {
    PrintOverview(environment.out);
    return FinishOutput(environment);
  }
  environment.err << "sluice: there is no command " << args[0] << "\nTry `sluice --help`.\n";
  return kExitUsage;
}

}  // namespace sluice
