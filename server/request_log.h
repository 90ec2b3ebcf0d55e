// One line a request: who, how much, how long, how it ended. Never what was asked or answered.
#pragma once

#include "engine/request.h"
#include "server/log.h"

namespace sluice {

// id, what origin_log.h says, kind, prompt_tokens, output_tokens, queue_seconds, prefill_seconds,
// decode_seconds, first_token_seconds, outcome; for an error code and message.
LogFields RequestLogFields(const Outcome& outcome);

// At info, or at warning if the server is at fault. Does not wait.
void LogRequest(const Outcome& outcome);

}  // namespace sluice
