#include "client/loadgen/loadgen_options.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/loadgen/parse_value.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

constexpr absl::Duration kLongest = absl::Hours(24 * 7);
constexpr absl::Duration kDefaultDuration = absl::Seconds(10);
constexpr absl::Duration kDefaultSweepWarmup = absl::Seconds(2);

// Puts options into the table that check what they are given and note that they were given.
class Adder {
 public:
  Adder(LoadgenOptions* options, OptionTable* table) : options_(options), table_(table) {}

  void Section(absl::string_view title) { table_->Section(title); }

  void Text(const std::string& name, absl::string_view value, std::string* target,
            absl::string_view help) {
    Custom(name, value, help, [target](absl::string_view text) {
      *target = std::string(text);
      return absl::OkStatus();
    });
  }

  template <typename T>
  void Whole(const std::string& name, T* target, int64_t low, int64_t high,
             absl::string_view help) {
    Custom(name, "N", help, [=](absl::string_view text) {
      SLUICE_ASSIGN_OR_RETURN(const int64_t number, ParseWholeIn(text, low, high));
      *target = static_cast<T>(number);
      return absl::OkStatus();
    });
  }

  template <typename T>
  void Number(const std::string& name, T* target, double low, double high, absl::string_view help) {
    Custom(name, "X", help, [=](absl::string_view text) {
      SLUICE_ASSIGN_OR_RETURN(const double number, ParseNumberIn(text, low, high));
      *target = static_cast<float>(number);
      return absl::OkStatus();
    });
  }

  void Share(const std::string& name, double* target, absl::string_view help) {
    Custom(name, "SHARE", help, [target](absl::string_view text) {
      SLUICE_ASSIGN_OR_RETURN(*target, ParseShare(text));
      return absl::OkStatus();
    });
  }

  void Duration(const std::string& name, absl::Duration* target, absl::Duration low,
                absl::string_view help) {
    Custom(name, "TIME", help, [=](absl::string_view text) {
      SLUICE_ASSIGN_OR_RETURN(*target, ParseDurationIn(text, low, kLongest));
      return absl::OkStatus();
    });
  }

  void Lengths(const std::string& name, LengthDistribution* target, int64_t low,
               absl::string_view help) {
    Custom(name, "LENGTHS", help, [=](absl::string_view text) {
      SLUICE_ASSIGN_OR_RETURN(*target, LengthDistribution::Parse(text));
      if (target->smallest().value_or(low) >= low) return absl::OkStatus();
      return absl::InvalidArgumentError(
          absl::StrCat("\"", text, "\" gives ", *target->smallest(), "; the least is ", low));
    });
  }

  void Flag(const std::string& name, bool* target, absl::string_view help) {
    table_->Flag(name, target, help);
  }

  void Tls(TlsOptions* target) { AddTlsOptions(target, table_); }

  void Custom(const std::string& name, absl::string_view value, absl::string_view help,
              std::function<absl::Status(absl::string_view)> set) {
    LoadgenOptions* options = options_;
    table_->Custom(
        name, value,
        [options, name, set = std::move(set)](absl::string_view text) {
          options->given.insert(name);
          return set(text);
        },
        help);
  }

 private:
  LoadgenOptions* options_;
  OptionTable* table_;
};

void AddServer(LoadgenOptions* options, Adder* add) {
  ServerOptions& server = options->server;
  add->Section("Where");
  add->Text("server", "HOST:PORT", &server.address, "Server to load. Default: 127.0.0.1:50051.");
  add->Tls(&server.tls);
  add->Text("api-key-file", "FILE", &server.api_key_file, "Holds the API key to send.");
  add->Whole("connections", &server.connections, 1, 10000,
             "Connections; requests go over them in turn. Default: 4.");
  add->Duration("connect-limit", &server.connect_limit, absl::Milliseconds(1),
                "How long it may take until the server answers and has loaded its model. "
                "Default: 5s.");
}

absl::Status SetThinkTime(absl::string_view text, LoadOptions* load) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(':', 1));
  load->exponential_think = parts.size() == 2 && parts[0] == "exponential";
  if (parts.size() == 2 && parts[0] != "fixed" && !load->exponential_think) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is none of TIME, fixed:TIME, exponential:TIME"));
  }
  SLUICE_ASSIGN_OR_RETURN(load->think_time,
                          ParseDurationIn(parts.back(), absl::ZeroDuration(), absl::Hours(1)));
  return absl::OkStatus();
}

absl::Status SetArrivals(absl::string_view text, LoadOptions* load) {
  if (text != "poisson" && text != "constant") {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is none of poisson, constant"));
  }
  load->arrivals = text == "poisson" ? ArrivalProcess::kPoisson : ArrivalProcess::kConstant;
  return absl::OkStatus();
}

absl::Status SetSweepRates(absl::string_view text, LoadgenOptions* options) {
  options->sweeps = true;
  options->sweep.rates.clear();
  if (text == "auto") return absl::OkStatus();
  SLUICE_ASSIGN_OR_RETURN(options->sweep.rates, ParseRates(text));
  return absl::OkStatus();
}

void AddLoop(LoadgenOptions* options, Adder* add) {
  LoadOptions* load = &options->load;
  add->Section("How requests come: exactly one of --users, --rate and --sweep-rates");
  add->Whole("users", &load->users, 1, 100000,
             "Closed loop: so many users, each with one request at a time.");
  add->Custom("think-time", "TIME",
              "With --users: pause of a user between two requests; fixed:TIME or "
              "exponential:MEAN. Default: 0s.",
              [load](absl::string_view text) { return SetThinkTime(text, load); });
  add->Duration("error-pause", &load->error_pause, absl::ZeroDuration(),
                "With --users: pause of a user after an error, besides. Default: 100ms.");
  add->Custom("rate", "X", "Open loop: requests a second, whatever becomes of those before.",
              [load](absl::string_view text) -> absl::Status {
                SLUICE_ASSIGN_OR_RETURN(load->rate, ParseNumberIn(text, 0.001, 1e6));
                return absl::OkStatus();
              });
  add->Custom("arrivals", "NAME", "Of the open loop: poisson or constant. Default: poisson.",
              [load](absl::string_view text) { return SetArrivals(text, load); });
  add->Whole("max-in-flight", &load->max_in_flight, 1, 1000000,
             "Of the open loop: one request more is not sent and counts as the error NOT_SENT. "
             "Default: 4096.");
  add->Whole("threads", &load->threads, 1, 64, "Threads that receive. Default: 1.");
}

void AddSweep(LoadgenOptions* options, Adder* add) {
  SweepOptions* sweep = &options->sweep;
  add->Custom("sweep-rates", "LIST",
              "An open loop at each of these rates, to find the knee; auto: at rates that are "
              "searched for. Needs --objective.",
              [options](absl::string_view text) { return SetSweepRates(text, options); });
  add->Custom("sweep-start", "X", "First rate of the search. Default: 1.",
              [sweep](absl::string_view text) -> absl::Status {
                SLUICE_ASSIGN_OR_RETURN(sweep->start, ParseNumberIn(text, 0.001, 1e6));
                return absl::OkStatus();
              });
  add->Whole("sweep-points", &sweep->max_points, 1, 100,
             "Rates that the search tries at most. Default: 16.");
  add->Share("sweep-served", &sweep->served_share,
             "A rate is sustained if this share of the requests due in its window is served "
             "within it. Default: 95%.");
  add->Share("sweep-good", &sweep->good_share,
             "And this share of the plain requests meets the objective. Default: 99%.");
}

void AddPhases(LoadgenOptions* options, Adder* add) {
  LoadOptions* load = &options->load;
  add->Section("How long");
  add->Duration("warmup", &load->warmup, absl::ZeroDuration(),
                "Requests due in this time are sent but not measured. Default: 0s, in a sweep 2s.");
  add->Duration("duration", &load->duration, absl::Milliseconds(1),
                "Of the measured phase. Default: 10s, or unbounded with --requests.");
  add->Whole("requests", &load->requests, 1, int64_t{1} << 40,
             "Measures so many requests, then ends.");
  add->Duration("drain", &load->drain, absl::ZeroDuration(),
                "What is not answered so long after the measured phase is cancelled and counts "
                "as the error UNFINISHED. Default: 30s.");
  add->Duration("deadline", &load->call.deadline, absl::Milliseconds(1),
                "Deadline of each request, from when it is sent. Default: none.");
}

absl::Status SetSeed(absl::string_view text, LoadgenOptions* options) {
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(text, &seed)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a whole number in [0, 2^64)"));
  }
  options->workload.seed = seed;
  options->load.seed = seed;
  return absl::OkStatus();
}

absl::Status SetPromptKind(absl::string_view text, SyntheticOptions* synthetic) {
  if (text != "tokens" && text != "words") {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is none of tokens, words"));
  }
  synthetic->words = text == "words";
  return absl::OkStatus();
}

void AddPrompts(LoadgenOptions* options, Adder* add) {
  WorkloadOptions* workload = &options->workload;
  SyntheticOptions* synthetic = &workload->synthetic;
  add->Section(
      "What the prompts are. LENGTHS: N, uniform:LOW,HIGH, normal:MEAN,STDDEV,\n"
      "lognormal:MEDIAN,SIGMA, zipf:EXPONENT,MAX or file:PATH (a number a line)");
  add->Text("prompts", "FILE", &workload->prompt_file,
            "Prompts in turn: one a line, or .jsonl with text or token_ids, and max_tokens.");
  add->Custom("prompt-kind", "NAME", "Without --prompts: random tokens, or words. Default: tokens.",
              [synthetic](absl::string_view text) { return SetPromptKind(text, synthetic); });
  add->Lengths("prompt-tokens", &workload->prompt_tokens, 1,
               "Lengths of these, in tokens or words. Default: 64.");
  add->Lengths("output-tokens", &workload->output_tokens, 1,
               "max_tokens of the requests. Default: 64.");
  add->Share("shared-prefix", &synthetic->shared_share,
             "Share of prompts with a prefix in front that others have too.");
  add->Whole("shared-prefixes", &synthetic->prefixes, 1, 100000, "Different prefixes. Default: 1.");
  add->Whole("shared-prefix-tokens", &synthetic->prefix_tokens, 1, LengthDistribution::kMaxLength,
             "Length of each, in tokens or words.");
}

void AddRequests(LoadgenOptions* options, Adder* add) {
  WorkloadOptions* workload = &options->workload;
  add->Section("What becomes of them. SHARE: 0.3 or 30%, of all requests; default: 0");
  add->Share("cancel", &workload->cancel_share, "Are cancelled.");
  add->Lengths("cancel-after", &workload->cancel_after, 0,
               "Once they have so many tokens. Default: uniform:0,32.");
  add->Share("slow", &workload->slow_share, "Are read with pauses.");
  add->Duration("slow-pause", &options->load.call.slow_pause, absl::Microseconds(100),
                "After each message of these. Default: 20ms.");
  add->Share("invalid", &workload->invalid_share,
             "Have a field out of its range, and should be refused.");
  add->Section("How tokens are drawn");
  add->Number("temperature", &workload->temperature, 0, 100,
              "As of `sluice generate`; default: the model's.");
  add->Whole("top-k", &workload->top_k, 0, int64_t{1} << 31, "The same.");
  add->Number("top-p", &workload->top_p, 1e-6, 1, "The same.");
  add->Flag("ignore-eos", &workload->ignore_eos, "Goes on after the end-of-sequence token.");
  add->Custom("seed", "N",
              "Of everything that is drawn: the same seed makes the same requests at the same "
              "times. Default: 0.",
              [options](absl::string_view text) { return SetSeed(text, options); });
}

void AddOutput(LoadgenOptions* options, Adder* add) {
  add->Section("What is reported");
  add->Custom("objective", "LIST",
              "What goodput counts: of ttft=TIME, itl=TIME (mean of a request), gap=TIME "
              "(longest between two messages), e2e=TIME.",
              [options](absl::string_view text) -> absl::Status {
                SLUICE_ASSIGN_OR_RETURN(options->load.objective, ParseObjective(text));
                return absl::OkStatus();
              });
  add->Text("json", "FILE", &options->json_file, "Writes the report there too.");
  add->Flag("progress", &options->progress,
            "Says on stderr how far it is, even if that is no terminal.");
  add->Flag("fail-on-errors", &options->fail_on_errors,
            "Ends with exit code 3 if there were errors that were not intended.");
  add->Flag("version", &options->version, "Prints the version and does nothing else.");
}

// The first of `names` that was given; empty if none was.
std::string FirstGiven(const LoadgenOptions& options, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    if (options.given.count(name) > 0) return absl::StrCat("--", name);
  }
  return "";
}

std::string FindLoopProblem(const LoadgenOptions& options) {
  const auto given = [&](const char* name) { return options.given.count(name) > 0; };
  const int loops = (given("users") ? 1 : 0) + (given("rate") ? 1 : 0) + (options.sweeps ? 1 : 0);
  if (loops != 1) return "give exactly one of --users, --rate and --sweep-rates";
  std::string misplaced;
  if (given("users")) {
    misplaced = FirstGiven(options, {"arrivals", "max-in-flight"});
    if (!misplaced.empty()) return misplaced + " needs --rate or --sweep-rates";
  } else {
    misplaced = FirstGiven(options, {"think-time", "error-pause"});
    if (!misplaced.empty()) return misplaced + " needs --users";
  }
  if (!options.sweeps) {
    misplaced = FirstGiven(options, {"sweep-start", "sweep-points", "sweep-served", "sweep-good"});
    return misplaced.empty() ? "" : misplaced + " needs --sweep-rates";
  }
  if (!given("objective")) return "--sweep-rates needs --objective, such as ttft=200ms";
  if (given("requests")) return "--sweep-rates goes by --duration: leave --requests out";
  return "";
}

std::string FindWorkloadProblem(const LoadgenOptions& options) {
  const WorkloadOptions& workload = options.workload;
  if (!workload.prompt_file.empty()) {
    const std::string other = FirstGiven(options, {"prompt-kind", "prompt-tokens", "shared-prefix",
                                                   "shared-prefixes", "shared-prefix-tokens"});
    if (!other.empty()) return other + " is for synthetic prompts: leave --prompts out";
  }
  const bool shares = workload.synthetic.shared_share > 0;
  if (shares != (workload.synthetic.prefix_tokens > 0)) {
    return "--shared-prefix and --shared-prefix-tokens need each other";
  }
  const double sum = workload.cancel_share + workload.slow_share + workload.invalid_share;
  if (sum > 1 + 1e-9) {
    return absl::StrCat("--cancel, --slow and --invalid are together ", sum, "; at most 1");
  }
  return "";
}

}  // namespace

void AddLoadgenOptions(LoadgenOptions* options, OptionTable* table) {
  Adder add(options, table);
  AddServer(options, &add);
  AddLoop(options, &add);
  AddSweep(options, &add);
  AddPhases(options, &add);
  AddPrompts(options, &add);
  AddRequests(options, &add);
  AddOutput(options, &add);
}

std::string CompleteOptions(LoadgenOptions* options) {
  std::string problem = FindLoopProblem(*options);
  if (problem.empty()) problem = FindWorkloadProblem(*options);
  if (problem.empty()) problem = CheckTlsOptions(options->server.tls);
  if (!problem.empty()) return problem;
  options->server.slow_readers = options->workload.slow_share > 0;
  if (options->sweeps && options->given.count("warmup") == 0) {
    options->load.warmup = kDefaultSweepWarmup;
  }
  if (options->given.count("duration") == 0 && options->load.requests == 0) {
    options->load.duration = kDefaultDuration;
  }
  return "";
}

}  // namespace sluice
