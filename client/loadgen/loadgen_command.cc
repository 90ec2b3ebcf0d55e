#include "client/loadgen/loadgen_command.h"

#include <fstream>
#include <memory>
#include <mutex>
#include <ostream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/api_key.h"
#include "client/command.h"
#include "client/loadgen/load_report.h"
#include "client/loadgen/loadgen_options.h"
#include "client/loadgen/progress_line.h"
#include "client/loadgen/rate_sweep.h"
#include "client/loadgen/server_channels.h"
#include "client/proto_convert.h"
#include "engine/status_macros.h"
#include "sluice/v1/model.grpc.pb.h"

namespace sluice {
namespace {

constexpr char kUsage[] =
    "Usage: sluice-loadgen (--users N | --rate X | --sweep-rates LIST) [OPTION...]\n\n"
    "Loads a Sluice server with requests and reports throughput and latencies.\n"
    "client/loadgen/README.md says what each figure means.\n";
constexpr char kExitCodes[] =
    "\nExit codes: 0 the load was run, whatever the server answered; 1 it could not be\n"
    "run or reported (no server, a file), with the code's name on stderr; 2 the\n"
    "command line is wrong; 3 with --fail-on-errors: there were errors that were not\n"
    "intended; 130 interrupted (Ctrl-C): what was measured until then is reported.\n";
constexpr absl::Duration kAskAgainAfter = absl::Milliseconds(50);

// The run under way, for Ctrl-C. Thread-safe.
class CurrentRun {
 public:
  // Null: none. A run that comes after Stop is stopped at once.
  void Set(LoadRun* run) {
    const std::lock_guard<std::mutex> lock(mutex_);
    run_ = run;
    if (run_ != nullptr && stopped_) run_->Stop();
  }

  void Stop() {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopped_ = true;
    if (run_ != nullptr) run_->Stop();
  }

 private:
  std::mutex mutex_;
  LoadRun* run_ = nullptr;  // guarded by mutex_
  bool stopped_ = false;    // guarded by mutex_
};

// All that runs need once the server has answered.
struct Session {
  LoadSetting setting;
  LoadChannels channels;
  std::unique_ptr<RequestPlanner> planner;
};

int Wrong(absl::string_view message, const LoadgenEnvironment& environment) {
  environment.err << "sluice-loadgen: " << message << "\nTry `sluice-loadgen --help`.\n";
  return kExitUsage;
}

int Failed(const absl::Status& status, const LoadgenEnvironment& environment) {
  environment.err << "sluice-loadgen: " << absl::StatusCodeToString(status.code()) << ": "
                  << status.message() << "\n";
  return kExitError;
}

absl::StatusOr<v1::GetModelResponse> AskOnce(const std::shared_ptr<grpc::Channel>& channel,
                                             const std::string& api_key, absl::Time deadline) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  if (!api_key.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", api_key));
  v1::GetModelResponse model;
  SLUICE_RETURN_IF_ERROR(
      ToStatus(v1::ModelService::NewStub(channel)->GetModel(&context, {}, &model)));
  return model;
}

// Again while the server says that it is still loading its model.
absl::StatusOr<v1::GetModelResponse> AskForModel(const std::shared_ptr<grpc::Channel>& channel,
                                                 const LoadgenOptions& options) {
  const absl::Time deadline = absl::Now() + options.server.connect_limit;
  while (true) {
    auto model = AskOnce(channel, options.load.call.api_key, deadline);
    const bool may_come = absl::IsUnavailable(model.status());
    if (!may_come || absl::Now() + kAskAgainAfter > deadline) return model;
    absl::SleepFor(kAskAgainAfter);
  }
}

absl::StatusOr<Session> Open(absl::Span<const std::string> args, LoadgenOptions* options) {
  Session session;
  if (!options->server.api_key_file.empty()) {
    SLUICE_ASSIGN_OR_RETURN(options->load.call.api_key, ReadApiKey(options->server.api_key_file));
  }
  SLUICE_ASSIGN_OR_RETURN(session.channels, ConnectAll(options->server));
  SLUICE_ASSIGN_OR_RETURN(session.setting.model, AskForModel(session.channels.usual[0], *options));
  SLUICE_ASSIGN_OR_RETURN(RequestPlanner planner,
                          RequestPlanner::Make(options->workload, session.setting.model));
  session.planner = std::make_unique<RequestPlanner>(std::move(planner));
  session.setting.command.assign(args.begin(), args.end());
  session.setting.address = options->server.address;
  session.setting.load = options->load;
  session.setting.started = absl::Now();
  return session;
}

LoadResult RunOnce(const Session& session, const LoadOptions& load, bool progress,
                   CurrentRun* current, const LoadgenEnvironment& environment) {
  LoadRun run(load, session.planner.get(), session.channels, nullptr);
  current->Set(&run);
  LoadResult result;
  {
    std::unique_ptr<ProgressLine> line;
    if (progress || environment.terminal) {
      line = std::make_unique<ProgressLine>(&run, environment.terminal, &environment.err);
    }
    result = run.Run();
  }
  current->Set(nullptr);
  return result;
}

absl::Status WriteJson(const nlohmann::ordered_json& json, const std::string& path) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << json.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
  file.flush();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("--json: ", path, " could not be written"));
}

// So that a long run is not in vain. Leaves what the file holds.
absl::Status CheckWritable(const std::string& path) {
  if (path.empty() || std::ofstream(path, std::ios::app)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--json: ", path, " cannot be written"));
}

std::vector<SweepPoint> RunSweep(const Session& session, const LoadgenOptions& options,
                                 CurrentRun* current, const LoadgenEnvironment& environment) {
  std::vector<SweepPoint> points;
  for (;;) {
    const std::optional<double> rate = NextRate(points, options.sweep);
    if (!rate.has_value()) return points;
    LoadOptions load = options.load;
    load.rate = *rate;
    SweepPoint point;
    point.rate = *rate;
    point.result = RunOnce(session, load, options.progress, current, environment);
    if (point.result.interrupted) return points;
    point.problem = FindProblem(point.result.totals, options.sweep);
    environment.err << "sluice-loadgen: " << point.rate
                    << " requests/s: " << (point.problem.empty() ? "sustained" : point.problem)
                    << std::endl;
    points.push_back(std::move(point));
  }
}

int ExitCode(bool interrupted, bool errors, const LoadgenOptions& options) {
  if (interrupted) return kExitInterrupted;
  return errors && options.fail_on_errors ? kExitErrors : kExitOk;
}

int Run(const Session& session, const LoadgenOptions& options, CurrentRun* current,
        const LoadgenEnvironment& environment) {
  bool interrupted = false;
  bool errors = false;
  nlohmann::ordered_json json;
  if (options.sweeps) {
    const std::vector<SweepPoint> points = RunSweep(session, options, current, environment);
    interrupted = NextRate(points, options.sweep).has_value();
    for (const SweepPoint& point : points) errors |= point.result.totals.errors > 0;
    PrintSweep(session.setting, options.sweep, points, environment.out);
    json = SweepJson(session.setting, options.sweep, points);
  } else {
    const LoadResult result =
        RunOnce(session, options.load, options.progress, current, environment);
    interrupted = result.interrupted;
    errors = result.totals.errors > 0;
    PrintReport(session.setting, result, environment.out);
    json = ReportJson(session.setting, result);
  }
  environment.out.flush();
  const absl::Status written = WriteJson(json, options.json_file);
  if (!written.ok()) return Failed(written, environment);
  if (!environment.out) {
    return Failed(absl::UnavailableError("the output could not be written"), environment);
  }
  return ExitCode(interrupted, errors, options);
}

}  // namespace

int RunLoadgen(absl::Span<const std::string> args, const LoadgenEnvironment& environment) {
  LoadgenOptions options;
  OptionTable table;
  AddLoadgenOptions(&options, &table);
  if (AsksForHelp(args)) {
    environment.out << kUsage << table.Help() << kExitCodes << std::flush;
    return kExitOk;
  }
  std::vector<std::string> operands;
  const absl::Status parsed = table.Parse(args, &operands);
  if (!parsed.ok()) return Wrong(parsed.message(), environment);
  if (options.version) {
    environment.out << "sluice-loadgen " << SLUICE_VERSION << "\n" << std::flush;
    return kExitOk;
  }
  if (!operands.empty()) return Wrong(absl::StrCat("what is ", operands[0], "?"), environment);
  const std::string problem = CompleteOptions(&options);
  if (!problem.empty()) return Wrong(problem, environment);
  const absl::Status writable = CheckWritable(options.json_file);
  if (!writable.ok()) return Failed(writable, environment);
  const absl::StatusOr<Session> session = Open(args, &options);
  if (!session.ok()) return Failed(session.status(), environment);
  const auto current = std::make_shared<CurrentRun>();
  if (environment.on_interrupt) environment.on_interrupt([current] { current->Stop(); });
  return Run(*session, options, current.get(), environment);
}

}  // namespace sluice
