#include "client/output_json.h"

namespace sluice {

using Json = nlohmann::ordered_json;

Json TopJson(const OutputToken& token) {
  Json top = Json::array();
  for (const TopToken& entry : token.top) top.push_back(Json::array({entry.token, entry.logprob}));
  return top;
}

Json LogprobJson(const OutputToken& token) {
  return token.logprob.has_value() ? Json(*token.logprob) : Json(nullptr);
}

Json ToJson(const Output& output, bool logprobs) {
  Json json;
  json["text"] = output.text;
  json["token_ids"] = Json::array();
  for (const OutputToken& token : output.tokens) json["token_ids"].push_back(token.token);
  if (!logprobs) return json;
  json["logprobs"] = Json::array();
  for (const OutputToken& token : output.tokens) {
    json["logprobs"].push_back(Json{{"logprob", LogprobJson(token)}, {"top", TopJson(token)}});
  }
  return json;
}

Json ToJson(const Outcome& outcome) {
  Json json;
  json["finish_reason"] = FinishReasonName(outcome.reason);
  if (outcome.stop_string.has_value()) json["stop"] = *outcome.stop_string;
  if (outcome.stop_token.has_value()) json["stop_token_id"] = *outcome.stop_token;
  json["usage"] = {{"prompt_tokens", outcome.prompt_tokens},
                   {"output_tokens", outcome.output_tokens}};
  json["timings"] = {{"queue_seconds", outcome.queue_seconds},
                     {"prefill_seconds", outcome.prefill_seconds},
                     {"decode_seconds", outcome.decode_seconds},
                     {"time_to_first_token_seconds", outcome.first_token_seconds}};
  json["seed"] = outcome.seed;
  json["request_id"] = outcome.request_id;
  return json;
}

Json ToJson(const ModelDescription& model) {
  const EngineInfo& info = model.info;
  Json json;
  json["name"] = info.model_name;
  json["model_type"] = info.model_type;
  json["parameters"] = info.parameters;
  json["hidden_size"] = info.hidden_size;
  json["num_layers"] = info.num_layers;
  json["vocab_size"] = info.vocab_size;
  json["num_heads"] = info.num_heads;
  json["num_kv_heads"] = info.num_kv_heads;
  json["head_key_dim"] = info.head_key_dim;
  json["head_value_dim"] = info.head_value_dim;
  json["state_bytes"] = info.state_bytes;
  json["weight_dtype"] = info.weight_dtype;
  json["device"] = info.device;
  json["eos_token_ids"] = info.eos_token_ids;
  json["limits"] = {{"max_prompt_tokens", info.max_prompt_tokens},
                    {"max_output_tokens", info.max_output_tokens},
                    {"max_text_bytes", info.max_text_bytes},
                    {"state_slots", info.state_slots},
                    {"max_waiting", info.max_waiting}};
  json["version"] = model.version;
  return json;
}

std::string Line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "unknown";
}

}  // namespace sluice
