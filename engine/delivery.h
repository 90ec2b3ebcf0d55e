// Turns what a step found out about a sequence into what its client gets: text, tokens, the end.
#pragma once

#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "engine/request.h"
#include "engine/sequence.h"
#include "engine/step_runner.h"

namespace sluice {

// What ended a sequence.
struct Finish {
  FinishReason reason;
  std::optional<std::string> stop_string;
  std::optional<int32_t> stop_token;
};

struct Delivery {
  Output output;
  std::optional<Finish> finish;
};

// Moves `sequence` on by a step that processed `processed` of its tokens, and takes what the step
// found out about it: `scored` tokens of its prompt, in order, and at most one that was `drawn`.
// The clock is the caller's.
Delivery Advance(Sequence* sequence, int32_t processed, absl::Span<TokenResult> scored,
                 absl::Span<TokenResult> drawn);

// The record of a sequence that ended at `now`.
Outcome MakeOutcome(const Sequence& sequence, const Finish& finish, absl::Status status,
                    absl::Time now);

}  // namespace sluice
