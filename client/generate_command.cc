#include <iomanip>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/command.h"
#include "client/input.h"
#include "client/output_json.h"

namespace sluice {
namespace {

// A server's own default suits programs that always say how many they want.
constexpr int64_t kDefaultMaxTokens = 128;

struct GenerateOptions {
  ConnectionOptions connection;
  InputOptions input;
  Request request;
  std::optional<double> timeout_seconds;
  std::optional<int64_t> top_logprobs;
  bool json = false;
  bool stats = false;
};

absl::Status AddBias(absl::string_view text, SamplingOptions* sampling) {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits(':', 1));
  int64_t id = 0;
  float bias = 0;
  if (!absl::SimpleAtoi(parts.first, &id) || !absl::SimpleAtof(parts.second, &bias)) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is not ID:BIAS"));
  }
  sampling->logit_bias.emplace_back(id, bias);
  return absl::OkStatus();
}

absl::Status SetSeed(absl::string_view text, SamplingOptions* sampling) {
  uint64_t seed = 0;
  if (!absl::SimpleAtoi(text, &seed)) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not a whole number in [0, 2^64)"));
  }
  sampling->seed = seed;
  return absl::OkStatus();
}

absl::Status AddStopTokens(absl::string_view text, StoppingOptions* stopping) {
  for (absl::string_view item : absl::StrSplit(text, ',')) {
    int64_t id = 0;
    if (!absl::SimpleAtoi(item, &id)) {
      return absl::InvalidArgumentError(absl::StrCat("\"", item, "\" is not a token id"));
    }
    stopping->stop_token_ids.push_back(id);
  }
  return absl::OkStatus();
}

void AddSamplingOptions(SamplingOptions* sampling, OptionTable* table) {
  table->Section("How tokens are drawn (default: as the model's generation_config.json says)");
  table->Number("temperature", "X", &sampling->temperature,
                "Divides the logits, 0 to 100; 0 takes the most likely token.");
  table->Integer("top-k", "N", &sampling->top_k, "Keeps the N most likely tokens; 0 keeps all.");
  table->Number("top-p", "P", &sampling->top_p,
                "Keeps the most likely tokens of probability P together, above 0 to 1.");
  table->Number("min-p", "P", &sampling->min_p,
                "Keeps tokens at least P times as likely as the most likely one, 0 to 1.");
  table->Number("repetition-penalty", "X", &sampling->repetition_penalty,
                "Makes tokens of prompt and output less likely, above 0 to 10; 1 is off.");
  table->Number("presence-penalty", "X", &sampling->presence_penalty,
                "Subtracted from the logits of tokens in the output, -2 to 2.");
  table->Number("frequency-penalty", "X", &sampling->frequency_penalty,
                "Subtracted once for each time the output holds the token, -2 to 2.");
  table->Custom(
      "logit-bias", "ID:BIAS", [=](absl::string_view text) { return AddBias(text, sampling); },
      "Adds BIAS, -100 to 100, to a token's logit. May be repeated.");
  table->Custom(
      "seed", "N", [=](absl::string_view text) { return SetSeed(text, sampling); },
      "Repeats the output of an earlier request with this seed.");
}

void AddStoppingOptions(StoppingOptions* stopping, OptionTable* table) {
  table->Section("When it ends");
  table->Integer("max-tokens", "N", &stopping->max_tokens,
                 absl::StrCat("Tokens to generate at most. Default: ", kDefaultMaxTokens, "."));
  table->Custom(
      "stop", "TEXT",
      [=](absl::string_view text) {
        stopping->stop.emplace_back(text);
        return absl::OkStatus();
      },
      "Ends before this text. May be repeated.");
  table->Custom(
      "stop-token-ids", "ID,ID,...",
      [=](absl::string_view text) { return AddStopTokens(text, stopping); },
      "Ends at one of these tokens.");
  table->Flag("ignore-eos", &stopping->ignore_eos, "Goes on after end-of-sequence tokens.");
}

void AddOptions(GenerateOptions* options, Invocation* line) {
  OptionTable& table = line->options;
  table.Section("The prompt, if it is no operand");
  table.Text("file", "PATH", &options->input.file, "Reads the prompt's text from a file.");
  table.Text("token-ids", "LIST|FILE", &options->input.token_ids,
             "The prompt as token ids: 1,2,3, or a JSON file with a list of them.");
  AddSamplingOptions(&options->request.sampling, &table);
  AddStoppingOptions(&options->request.stopping, &table);
  table.Number("timeout", "SECONDS", &options->timeout_seconds,
               "Ends with DEADLINE_EXCEEDED after so long. Default: never.");
  table.Section("What is printed");
  table.Flag("json", &options->json,
             "One JSON object a line: increments of text and token ids, and at last how it ended.");
  table.Flag("logprobs", &options->request.logprobs,
             "With --json: the log-probability of each token.");
  table.Integer("top-logprobs", "N", &options->top_logprobs,
                "With --logprobs: also of the N most likely tokens, 0 to 20.");
  table.Flag("echo", &options->request.echo, "Prints the prompt first.");
  table.Flag("stats", &options->stats, "At the end, times and rates in one line on stderr.");
  table.Text("request-id", "NAME", &options->request.id, "Names the request in the server's log.");
  AddConnectionOptions(&options->connection, line);
}

// What the options contradict each other in; empty if in nothing.
std::string FindProblem(const Invocation& line, const GenerateOptions& options) {
  std::string problem = CheckOneInput(line.operands, options.input);
  if (!problem.empty()) return problem;
  if (options.request.logprobs && !options.json) return "--logprobs needs --json";
  if (options.top_logprobs.has_value() && !options.request.logprobs) {
    return "--top-logprobs needs --logprobs";
  }
  if (options.timeout_seconds.has_value() && !(*options.timeout_seconds > 0)) {
    return "--timeout must be greater than 0";
  }
  return "";
}

std::string Stats(const Outcome& outcome) {
  const int32_t decoded = outcome.output_tokens - 1;
  const std::string rate = decoded > 0 && outcome.decode_seconds > 0
                               ? absl::StrFormat("%.1f", decoded / outcome.decode_seconds)
                               : "-";
  return absl::StrFormat(
      "time to first token %.1f ms, %s tokens/s, %d prompt tokens, %d output tokens, finish %s, "
      "seed %d",
      outcome.first_token_seconds * 1e3, rate, outcome.prompt_tokens, outcome.output_tokens,
      FinishReasonName(outcome.reason), outcome.seed);
}

void Print(const Output& output, const GenerateOptions& options, std::ostream& out) {
  if (!options.json) {
    out << output.text << std::flush;
  } else if (!output.text.empty() || !output.tokens.empty()) {
    out << Line(ToJson(output, options.request.logprobs)) << "\n" << std::flush;
  }
}

int Generate(const GenerateOptions& options, const Environment& environment) {
  const absl::StatusOr<std::shared_ptr<Backend>> backend = environment.connect(options.connection);
  if (!backend.ok()) return Fail(backend.status(), environment);
  bool in_line = false;  // the cursor stands behind text
  const absl::StatusOr<Outcome> outcome =
      (*backend)->Run(options.request, [&](const Output& output) {
        Print(output, options, environment.out);
        if (!output.text.empty()) in_line = output.text.back() != '\n';
      });
  if (in_line && !options.json) environment.out << "\n" << std::flush;
  if (!outcome.ok()) return Fail(outcome.status(), environment);
  if (options.json) environment.out << Line(ToJson(*outcome)) << "\n";
  if (options.stats) environment.err << Stats(*outcome) << "\n";
  return FinishOutput(environment);
}

}  // namespace

int RunGenerate(absl::Span<const std::string> args, const Environment& environment) {
  GenerateOptions options;
  options.request.stopping.max_tokens = kDefaultMaxTokens;
  Invocation line = {"generate", "[OPTION...] PROMPT | -",
                     "Prints the completion of a prompt as it is generated. The prompt is the\n"
                     "operand, or standard input if that is `-`."};
  AddOptions(&options, &line);
  const std::optional<int> over = ParseOrExplain(args, &line, environment);
  if (over.has_value()) return *over;
  const std::string problem = FindProblem(line, options);
  if (!problem.empty()) return UsageError(line, problem, environment);
  options.request.top_logprobs = options.top_logprobs.value_or(0);
  const absl::Status read =
      ReadInput(line.operands, options.input, environment.in, &options.request);
  if (!read.ok()) return Fail(read, environment);
  if (options.timeout_seconds.has_value()) {
    options.request.deadline = absl::Now() + absl::Seconds(*options.timeout_seconds);
  }
  return Generate(options, environment);
}

}  // namespace sluice
