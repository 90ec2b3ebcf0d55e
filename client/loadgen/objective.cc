#include "client/loadgen/objective.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/loadgen/parse_value.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

struct Part {
  absl::string_view name;
  absl::Duration Objective::*limit;
};

constexpr Part kParts[] = {{"ttft", &Objective::first_token},
                           {"itl", &Objective::inter_token},
                           {"gap", &Objective::longest_gap},
                           {"e2e", &Objective::end_to_end}};

bool Within(int64_t ns, absl::Duration limit) { return absl::Nanoseconds(ns) <= limit; }

absl::Status SetPart(absl::string_view item, Objective* objective) {
  const std::pair<absl::string_view, absl::string_view> sides =
      absl::StrSplit(item, absl::MaxSplits('=', 1));
  for (const Part& part : kParts) {
    if (part.name != sides.first) continue;
    SLUICE_ASSIGN_OR_RETURN(objective->*part.limit,
                            ParseDurationIn(sides.second, absl::Microseconds(1), absl::Hours(24)));
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", item, "\" is none of ttft=TIME, itl=TIME, gap=TIME, e2e=TIME"));
}

}  // namespace

absl::StatusOr<Objective> ParseObjective(absl::string_view text) {
  Objective objective;
  for (const absl::string_view item : absl::StrSplit(text, ',')) {
    SLUICE_RETURN_IF_ERROR(SetPart(item, &objective));
  }
  return objective;
}

std::string ToText(const Objective& objective) {
  std::string text;
  for (const Part& part : kParts) {
    if (objective.*part.limit == absl::InfiniteDuration()) continue;
    absl::StrAppend(&text, text.empty() ? "" : ",", part.name, "=",
                    absl::FormatDuration(objective.*part.limit));
  }
  return text;
}

bool Meets(const RequestRecord& record, const Objective& objective) {
  if (record.end != RequestEnd::kAnswered) return false;
  // An answer without a token has no first one; it is as late as its end.
  const int64_t first_ns = record.first_token_ns == 0 ? record.end_ns : record.first_token_ns;
  const int64_t mean_gap_ns =
      record.later_tokens == 0
          ? 0
          : (record.last_token_ns - record.first_token_ns) / record.later_tokens;
  return Within(first_ns - record.due_ns, objective.first_token) &&
         Within(mean_gap_ns, objective.inter_token) &&
         Within(record.longest_gap_ns, objective.longest_gap) &&
         Within(record.end_ns - record.due_ns, objective.end_to_end);
}

}  // namespace sluice
