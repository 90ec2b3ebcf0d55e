#include <optional>
#include <ostream>
#include <string>

#include "absl/strings/str_join.h"
#include "client/command.h"
#include "client/input.h"
#include "client/output_json.h"

namespace sluice {
namespace {

struct TokenizeOptions {
  ConnectionOptions connection;
  InputOptions input;
  std::string decode;
  bool no_special_tokens = false;
  bool keep_special_tokens = false;
  bool json = false;
};

void AddOptions(TokenizeOptions* options, Invocation* line) {
  OptionTable& table = line->options;
  table.Section("What to do");
  table.Text("file", "PATH", &options->input.file, "Reads the text from a file.");
  table.Text("decode", "LIST|FILE", &options->decode,
             "Prints the text of these token ids instead: 1,2,3, or a JSON file with a list.");
  table.Flag("no-special-tokens", &options->no_special_tokens,
             "Leaves out the special tokens that the tokenizer adds to a prompt.");
  table.Flag("keep-special-tokens", &options->keep_special_tokens,
             "With --decode: leaves special tokens in the text.");
  table.Flag("json", &options->json, "Prints {\"token_ids\": [...]}, or {\"text\": ...}.");
  AddConnectionOptions(&options->connection, line);
}

int Decode(const TokenizeOptions& options, const Environment& environment) {
  const absl::StatusOr<std::vector<int64_t>> ids = ReadTokenIds(options.decode);
  if (!ids.ok()) return Fail(ids.status(), environment);
  const absl::StatusOr<std::shared_ptr<Backend>> backend = environment.connect(options.connection);
  if (!backend.ok()) return Fail(backend.status(), environment);
  const absl::StatusOr<std::string> text =
      (*backend)->Detokenize(*ids, options.keep_special_tokens);
  if (!text.ok()) return Fail(text.status(), environment);
  environment.out << (options.json ? Line({{"text", *text}}) : *text) << "\n";
  return FinishOutput(environment);
}

int Encode(const TokenizeOptions& options, const std::string& text,
           const Environment& environment) {
  const absl::StatusOr<std::shared_ptr<Backend>> backend = environment.connect(options.connection);
  if (!backend.ok()) return Fail(backend.status(), environment);
  const absl::StatusOr<std::vector<int32_t>> ids =
      (*backend)->Tokenize(text, !options.no_special_tokens);
  if (!ids.ok()) return Fail(ids.status(), environment);
  environment.out << (options.json ? Line({{"token_ids", *ids}}) : absl::StrJoin(*ids, ","))
                  << "\n";
  return FinishOutput(environment);
}

}  // namespace

int RunTokenize(absl::Span<const std::string> args, const Environment& environment) {
  TokenizeOptions options;
  Invocation line = {"tokenize", "[OPTION...] TEXT | - | --decode LIST|FILE",
                     "Prints a text's token ids, separated by commas, or the text of ids."};
  AddOptions(&options, &line);
  const std::optional<int> over = ParseOrExplain(args, &line, environment);
  if (over.has_value()) return *over;
  if (!options.decode.empty()) {
    const bool text_too = !line.operands.empty() || !options.input.file.empty();
    if (text_too) return UsageError(line, "--decode takes no text beside it", environment);
    return Decode(options, environment);
  }
  if (options.keep_special_tokens) {
    return UsageError(line, "--keep-special-tokens needs --decode", environment);
  }
  const std::string problem = CheckOneInput(line.operands, options.input);
  if (!problem.empty()) return UsageError(line, problem, environment);
  Request request;
  const absl::Status read = ReadInput(line.operands, options.input, environment.in, &request);
  if (!read.ok()) return Fail(read, environment);
  return Encode(options, *request.text, environment);
}

}  // namespace sluice
