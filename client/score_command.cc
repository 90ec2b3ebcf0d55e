#include <cmath>
#include <optional>
#include <ostream>
#include <string>

#include "absl/strings/str_format.h"
#include "client/command.h"
#include "client/input.h"
#include "client/output_json.h"

namespace sluice {
namespace {

struct ScoreOptions {
  ConnectionOptions connection;
  InputOptions input;
  std::optional<int64_t> top;
  bool json = false;
};

void AddOptions(ScoreOptions* options, Invocation* line) {
  OptionTable& table = line->options;
  table.Section("The text, if it is no operand");
  table.Text("file", "PATH", &options->input.file, "Reads the text from a file.");
  table.Text("token-ids", "LIST|FILE", &options->input.token_ids,
             "The text as token ids: 1,2,3, or a JSON file with a list of them.");
  table.Section("What is printed");
  table.Integer("top", "N", &options->top,
                "Also the N most likely tokens at each place, 0 to 20. Default: 0.");
  table.Flag("json", &options->json,
             "One JSON object: token_logprobs, null for the first token, which nothing predicts; "
             "top_logprobs, for each token a list of [id, log-probability].");
  AddConnectionOptions(&options->connection, line);
  table.Text("model", "DIR", &options->connection.local, "The same as --local.");
}

nlohmann::ordered_json ScoreJson(const std::vector<OutputToken>& tokens) {
  nlohmann::ordered_json json;
  json["token_logprobs"] = nlohmann::ordered_json::array();
  json["top_logprobs"] = nlohmann::ordered_json::array();
  for (const OutputToken& token : tokens) {
    json["token_logprobs"].push_back(LogprobJson(token));
    json["top_logprobs"].push_back(TopJson(token));
  }
  return json;
}

void PrintTable(const std::vector<OutputToken>& tokens, std::ostream& out) {
  double total = 0;
  size_t predicted = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const OutputToken& token = tokens[i];
    const std::string logprob =
        token.logprob.has_value() ? absl::StrFormat("%.6f", *token.logprob) : "-";
    out << absl::StrFormat("%6d %8d %12s", i, token.token, logprob);
    for (const TopToken& top : token.top)
      out << absl::StrFormat("  %d:%.6f", top.token, top.logprob);
    out << "\n";
    if (!token.logprob.has_value()) continue;
    total += *token.logprob;
    ++predicted;
  }
  if (predicted == 0) return;
  out << absl::StrFormat("%d tokens predicted, log-probability %.6f, perplexity %.4f\n", predicted,
                         total, std::exp(-total / static_cast<double>(predicted)));
}

int Score(const ScoreOptions& options, const Request& request, const Environment& environment) {
  const absl::StatusOr<std::shared_ptr<Backend>> backend = environment.connect(options.connection);
  if (!backend.ok()) return Fail(backend.status(), environment);
  std::vector<OutputToken> tokens;
  const absl::StatusOr<Outcome> outcome = (*backend)->Run(request, [&](const Output& output) {
    tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
  });
  if (!outcome.ok()) return Fail(outcome.status(), environment);
  if (options.json) {
    environment.out << Line(ScoreJson(tokens)) << "\n";
  } else {
    PrintTable(tokens, environment.out);
  }
  return FinishOutput(environment);
}

}  // namespace

int RunScore(absl::Span<const std::string> args, const Environment& environment) {
  ScoreOptions options;
  Invocation line = {"score", "[OPTION...] TEXT | -",
                     "Prints the log-probability (natural logarithm) of each token of a text,\n"
                     "given those before it: position, id, log-probability. In this process\n"
                     "(--local, --model) weights are float32 unless --dtype says otherwise."};
  AddOptions(&options, &line);
  const std::optional<int> over = ParseOrExplain(args, &line, environment);
  if (over.has_value()) return *over;
  const std::string problem = CheckOneInput(line.operands, options.input);
  if (!problem.empty()) return UsageError(line, problem, environment);
  if (!options.connection.local.empty() && options.connection.dtype.empty()) {
    options.connection.dtype = "float32";
  }
  Request request;
  request.kind = RequestKind::kScore;
  request.logprobs = true;
  request.top_logprobs = options.top.value_or(0);
  const absl::Status read = ReadInput(line.operands, options.input, environment.in, &request);
  if (!read.ok()) return Fail(read, environment);
  return Score(options, request, environment);
}

}  // namespace sluice
