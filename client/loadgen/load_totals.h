// What a load run has counted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "client/loadgen/latency_histogram.h"

namespace sluice {

struct ErrorCount {
  int64_t count = 0;
  std::string message;  // of the first of them
};

// One second of a run; all requests count, measured or not.
struct SecondCounts {
  int64_t due = 0;
  int64_t answered = 0;
  int64_t errors = 0;
  int64_t output_tokens = 0;
};

// Of measured requests, if nothing else is said.
struct LoadTotals {
  int64_t due = 0;
  int64_t answered = 0;
  int64_t cancelled = 0;  // on purpose
  int64_t refused = 0;    // on purpose
  int64_t interrupted = 0;
  int64_t errors = 0;
  std::map<std::string, ErrorCount> errors_by_name;

  int64_t plain = 0;  // of those due, that were to be read to their end; not the interrupted ones
  int64_t good = 0;   // of those, that met the objective

  // Of all requests, within the window of the measured phase.
  int64_t window_due = 0;
  int64_t window_answered = 0;
  int64_t window_served = 0;  // answered, cancelled or refused: what was not an error
  int64_t window_output_tokens = 0;
  int64_t window_prompt_tokens = 0;
  int64_t window_messages = 0;

  int64_t last_end_ns = 0;  // when the last one ended

  LatencyHistogram first_token;  // from when it was due; of every one that got a token
  LatencyHistogram inter_token;  // a gap between two messages over the tokens of the second
  LatencyHistogram message_gap;  // the gap itself
  LatencyHistogram end_to_end;   // of plain ones that were answered
  LatencyHistogram send_delay;   // from when it was due until it was handed to gRPC

  std::vector<SecondCounts> seconds;  // from the start of the run

  void Merge(const LoadTotals& other);
};

}  // namespace sluice
