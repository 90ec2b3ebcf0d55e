// A line for a call that was not let in; few of them, since a client can cause any number.
#pragma once

#include <array>

#include "server/log.h"
#include "server/log_limit.h"
#include "server/refusal.h"

namespace sluice {

// id, peer, tenant, key, trace_id, ..., method, reason, code, message; left_out: how many lines
// before it were not written.
LogFields RefusalLogFields(const Refusal& refusal, int64_t left_out);

// Thread-safe.
class RefusalLog {
 public:
  static constexpr int64_t kLinesPerSecond = 5;  // of each reason

  // At info. Does not wait.
  void Write(const Refusal& refusal);

 private:
  // One for each reason.
  std::array<LogLimit, kRefusalReasonNames.size()> limits_ = {
      LogLimit(kLinesPerSecond), LogLimit(kLinesPerSecond), LogLimit(kLinesPerSecond),
      LogLimit(kLinesPerSecond), LogLimit(kLinesPerSecond)};
};

}  // namespace sluice
