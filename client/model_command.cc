#include <optional>
#include <ostream>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/command.h"
#include "client/describe_directory.h"
#include "client/output_json.h"

namespace sluice {
namespace {

std::string ModelText(const ModelDescription& model) {
  const EngineInfo& info = model.info;
  std::string text;
  const auto row = [&text](const char* name, const std::string& value) {
    absl::StrAppendFormat(&text, "%-18s %s\n", name, value);
  };
  row("name", info.model_name);
  row("model type", info.model_type);
  row("parameters", absl::StrFormat("%d", info.parameters));
  row("layers", absl::StrFormat("%d", info.num_layers));
  row("hidden size", absl::StrFormat("%d", info.hidden_size));
  row("vocabulary", absl::StrFormat("%d", info.vocab_size));
  row("heads", absl::StrFormat("%d (%d with a state)", info.num_heads, info.num_kv_heads));
  row("head dims", absl::StrFormat("K %d, V %d", info.head_key_dim, info.head_value_dim));
  row("state", absl::StrFormat("%d bytes a sequence, at any length", info.state_bytes));
  row("weights", info.weight_dtype);
  row("device", info.device);
  row("end of sequence", absl::StrJoin(info.eos_token_ids, ","));
  row("prompt", absl::StrFormat("at most %d tokens, %d bytes of text", info.max_prompt_tokens,
                                info.max_text_bytes));
  row("output", absl::StrFormat("at most %d tokens", info.max_output_tokens));
  row("requests",
      absl::StrFormat("at most %d at a time, %d waiting", info.state_slots, info.max_waiting));
  row("version", model.version);
  return text;
}

}  // namespace

int RunModel(absl::Span<const std::string> args, const Environment& environment) {
  ConnectionOptions connection;
  bool json = false;
  Invocation line = {
      "model", "[OPTION...] [DIRECTORY]",
      "Prints what model is served, its sizes and what the server accepts. With a\n"
      "Hugging Face model directory (the operand, or --local), what that holds, from\n"
      "its config.json and its checkpoint's headers: nothing is loaded."};
  line.options.Section("What is printed");
  line.options.Flag("json", &json, "One JSON object.");
  AddConnectionOptions(&connection, &line);
  const std::optional<int> over = ParseOrExplain(args, &line, environment);
  if (over.has_value()) return *over;
  if (line.operands.size() > 1) return UsageError(line, "takes one directory", environment);
  if (!line.operands.empty() && !(connection.server.empty() && connection.local.empty())) {
    return UsageError(line, "a directory excludes --server and --local", environment);
  }
  if (!line.operands.empty()) connection.local = line.operands[0];
  if (!connection.local.empty()) return DescribeDirectory(connection, json, environment);
  const absl::StatusOr<std::shared_ptr<Backend>> backend = environment.connect(connection);
  if (!backend.ok()) return Fail(backend.status(), environment);
  const absl::StatusOr<ModelDescription> model = (*backend)->Describe();
  if (!model.ok()) return Fail(model.status(), environment);
  environment.out << (json ? Line(ToJson(*model)) + "\n" : ModelText(*model));
  return FinishOutput(environment);
}

}  // namespace sluice
