// The JSON that --json prints. Numbers keep all of a float's digits.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "client/backend.h"
#include "engine/request.h"

namespace sluice {

// {"text", "token_ids", and if they were asked for "logprobs": [{"logprob", "top": [[id, logprob],
// ...]}, ...]}.
nlohmann::ordered_json ToJson(const Output& output, bool logprobs);

// {"finish_reason", what stopped it, "usage", "timings", "seed", "request_id"}.
nlohmann::ordered_json ToJson(const Outcome& outcome);

nlohmann::ordered_json ToJson(const ModelDescription& model);

// [[id, logprob], ...].
nlohmann::ordered_json TopJson(const OutputToken& token);

// null if nothing predicts the token.
nlohmann::ordered_json LogprobJson(const OutputToken& token);

// On one line, without the newline.
std::string Line(const nlohmann::ordered_json& json);

// "stop", "length" or "cancelled".
std::string FinishReasonName(FinishReason reason);

}  // namespace sluice
