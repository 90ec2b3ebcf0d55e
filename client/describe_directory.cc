#include "client/describe_directory.h"

#include <ostream>
#include <string>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/output_json.h"
#include "engine/model_summary.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

std::string ToText(const ModelSummary& model) {
  std::string text;
  const auto row = [&text](const char* name, const std::string& value) {
    absl::StrAppendFormat(&text, "%-18s %s\n", name, value);
  };
  row("model type", model.config.model_type);
  row("gate", model.gate);
  row("parameters", absl::StrFormat("%d", model.parameters));
  row("layers", absl::StrFormat("%d", model.config.num_layers));
  row("hidden size", absl::StrFormat("%d", model.config.hidden_size));
  row("vocabulary", absl::StrFormat("%d", model.config.vocab_size));
  row("heads",
      absl::StrFormat("%d (%d with a state)", model.state_shape.heads, model.state_shape.kv_heads));
  row("head dims",
      absl::StrFormat("K %d, V %d", model.state_shape.key_dim, model.state_shape.value_dim));
  row("state",
      absl::StrFormat("%d bytes a slot, at any length; float32 of each layer:", model.slot_bytes));
  for (const StatePart& part : model.layer_state) {
    row("", absl::StrFormat("%s %d", part.name, part.floats));
  }
  row("weights", absl::StrFormat("%d bytes as %s", model.weight_bytes, model.weight_dtype));
  row("device", absl::StrFormat("%s, %d bytes free", model.device, model.free_bytes));
  row("slots that fit",
      absl::StrFormat("%d%s", model.slots, model.slots == kMaxStateSlots ? " (the limit)" : ""));
  row("checkpoint", model.checkpoint.ok() ? "complete" : std::string(model.checkpoint.message()));
  return text;
}

nlohmann::ordered_json ToJson(const ModelSummary& model) {
  nlohmann::ordered_json json;
  json["model_type"] = model.config.model_type;
  json["gate"] = model.gate;
  json["parameters"] = model.parameters;
  json["hidden_size"] = model.config.hidden_size;
  json["num_layers"] = model.config.num_layers;
  json["vocab_size"] = model.config.vocab_size;
  json["num_heads"] = model.state_shape.heads;
  json["num_kv_heads"] = model.state_shape.kv_heads;
  json["head_key_dim"] = model.state_shape.key_dim;
  json["head_value_dim"] = model.state_shape.value_dim;
  json["state_bytes"] = model.slot_bytes;
  for (const StatePart& part : model.layer_state) {
    json["layer_state_floats"][part.name] = part.floats;
  }
  json["weight_dtype"] = model.weight_dtype;
  json["weight_bytes"] = model.weight_bytes;
  json["device"] = model.device;
  json["device_free_bytes"] = model.free_bytes;
  json["slots_that_fit"] = model.slots;
  json["checkpoint_complete"] = model.checkpoint.ok();
  if (!model.checkpoint.ok()) json["checkpoint_error"] = std::string(model.checkpoint.message());
  for (const WeightPart& tensor : model.tensors) json["tensors"][tensor.name] = tensor.shape;
  return json;
}

absl::Status Describe(const ConnectionOptions& options, bool json, std::ostream& out) {
  SLUICE_ASSIGN_OR_RETURN(const EngineConfig config, LocalConfig(options));
  SLUICE_ASSIGN_OR_RETURN(const ModelSummary model, SummarizeModel(config));
  out << (json ? Line(ToJson(model)) + "\n" : ToText(model));
  return absl::OkStatus();
}

}  // namespace

int DescribeDirectory(const ConnectionOptions& options, bool json, const Environment& environment) {
  const absl::Status status = Describe(options, json, environment.out);
  return status.ok() ? FinishOutput(environment) : Fail(status, environment);
}

}  // namespace sluice
