// Runs of tokens through GatedStep over states of any format, token by token, and the oracle's.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "tests/kernels/gated_problem.h"

namespace sluice {

// "float16 ring 16"
std::string FormatName(const StateFormat& format);

// The shape of gated_problem.h with states of this format.
GatedShape WithState(GatedShape shape, const StateFormat& format);

// Tokens [begin, end) of every run, one of each in a step, over `states` of all slots. The runs are
// equally long; `out` is [runs, end - begin, H, V].
GatedOutcome RunReplay(Device& device, const GatedProblem& problem, int64_t begin, int64_t end,
                       const std::vector<float>& states);

// Queues FoldStates of these slots and returns the states.
std::vector<float> RunFold(Device& device, const GatedShape& shape,
                           const std::vector<int32_t>& slots, const std::vector<float>& states);

struct ReplayTolerance {
  Tolerance out;
  Tolerance state;
};

// By the oracle that rounds where the format does; what each ring holds, and that slots which are
// not used keep their bits, as well.
void ExpectAgreesWithReplay(const GatedProblem& problem, const GatedOutcome& got,
                            const ReplayTolerance& tolerance);

// By the recurrence that never rounds.
void ExpectIsNearRecurrence(const GatedProblem& problem, const GatedOutcome& got,
                            Tolerance tolerance);

// By the recurrence whose last state is rounded: what a chunk leaves, or a fold of no tokens.
void ExpectIsRoundedRecurrence(const GatedProblem& problem, const GatedOutcome& got,
                               const ReplayTolerance& tolerance);

// Whether two states are the same, byte by byte.
bool SameState(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace sluice
