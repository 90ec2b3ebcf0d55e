// What latency is good enough.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "client/loadgen/request_record.h"

namespace sluice {

struct Objective {
  absl::Duration first_token = absl::InfiniteDuration();  // "ttft"
  absl::Duration inter_token = absl::InfiniteDuration();  // "itl": the mean of a request
  absl::Duration longest_gap = absl::InfiniteDuration();  // "gap": between two messages
  absl::Duration end_to_end = absl::InfiniteDuration();   // "e2e"
};

// Reads "ttft=200ms,itl=20ms". InvalidArgument says what is wrong.
absl::StatusOr<Objective> ParseObjective(absl::string_view text);

// As ParseObjective reads it; empty if it demands nothing.
std::string ToText(const Objective& objective);

// Whether a request was answered in full, and as fast as that.
bool Meets(const RequestRecord& record, const Objective& objective);

}  // namespace sluice
