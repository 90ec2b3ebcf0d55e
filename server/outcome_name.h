// How a request ended, in one word: what logs and metrics call it.
#pragma once

#include "engine/request.h"

namespace sluice {

// "stop", "length", "complete" (a score), "cancelled" (by its client, or while draining), "error".
inline const char* OutcomeName(const Outcome& outcome) {
  if (outcome.status.code() == absl::StatusCode::kCancelled) return "cancelled";
  if (!outcome.status.ok()) return "error";
  if (outcome.reason == FinishReason::kCancelled) return "cancelled";
  if (outcome.kind == RequestKind::kScore) return "complete";
  return outcome.reason == FinishReason::kStop ? "stop" : "length";
}

inline const char* KindName(RequestKind kind) {
  return kind == RequestKind::kScore ? "score" : "generate";
}

}  // namespace sluice
