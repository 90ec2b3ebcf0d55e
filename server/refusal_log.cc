#include "server/refusal_log.h"

#include <optional>
#include <string>

#include "absl/time/clock.h"
#include "server/origin_log.h"

namespace sluice {

LogFields RefusalLogFields(const Refusal& refusal, int64_t left_out) {
  LogFields fields;
  fields.Add("id", refusal.request_id);
  AddOrigin(refusal.origin, &fields);
  fields.Add("method", CallMethodName(refusal.method))
      .Add("reason", RefusalReasonName(refusal.reason))
      .Add("code", absl::StatusCodeToString(refusal.status.code()))
      .Add("message", std::string(refusal.status.message()));
  if (left_out > 0) fields.Add("left_out", left_out);
  return fields;
}

void RefusalLog::Write(const Refusal& refusal) {
  const std::optional<int64_t> left_out =
      limits_.at(static_cast<size_t>(refusal.reason)).Take(absl::Now());
  if (left_out.has_value()) Log(LogLevel::kInfo, "refused", RefusalLogFields(refusal, *left_out));
}

}  // namespace sluice
