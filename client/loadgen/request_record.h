// What happened to one request of a load.
#pragma once

#include <cstdint>
#include <string>

#include "client/loadgen/request_plan.h"

namespace sluice {

enum class RequestEnd : uint8_t {
  kAnswered,     // in full
  kCancelled,    // by the load, on purpose
  kRefused,      // with INVALID_ARGUMENT, on purpose
  kError,        // `error` says which
  kInterrupted,  // the load was stopped by Ctrl-C
};

// Times are of the steady clock, in nanoseconds; 0 where there was none.
struct RequestRecord {
  uint64_t index = 0;
  LoadKind kind = LoadKind::kPlain;
  bool measured = false;  // due in the measured phase
  int64_t due_ns = 0;     // when it had to be sent: what its latencies count from
  int64_t sent_ns = 0;
  int64_t first_token_ns = 0;
  int64_t last_token_ns = 0;
  int64_t end_ns = 0;
  int64_t prompt_tokens = 0;  // 0 if nobody said
  int64_t output_tokens = 0;
  int64_t later_tokens = 0;    // of these, those that came after the first message with tokens
  int64_t longest_gap_ns = 0;  // between two messages with tokens
  RequestEnd end = RequestEnd::kAnswered;
  // A canonical code ("RESOURCE_EXHAUSTED"), or what no server says:
  //   NOT_SENT          more requests were in flight than --max-in-flight
  //   UNFINISHED        not answered when the drain was over
  //   INCOMPLETE        the stream ended well, but without `finished`
  //   CUT_SHORT         the server ended it before its time (FINISH_REASON_CANCELLED)
  //   INVALID_ACCEPTED  it should have been refused
  std::string error;
  std::string message;  // of the error, or of the refusal
};

}  // namespace sluice
