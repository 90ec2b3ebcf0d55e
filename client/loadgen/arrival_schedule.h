// When the requests of an open loop are due.
#pragma once

#include <cstdint>
#include <optional>

#include "client/loadgen/random_stream.h"

namespace sluice {

enum class ArrivalProcess : uint8_t {
  kPoisson,   // exponential gaps, as of many clients that know nothing of each other
  kConstant,  // equal gaps
};

struct ArrivalOptions {
  ArrivalProcess process = ArrivalProcess::kPoisson;
  double rate = 1;  // a second
  uint64_t seed = 0;
  int64_t end_ns = 0;   // no arrival at or after this
  int64_t count = 0;    // of arrivals at or after `from_ns`, at most; 0: no limit but the end
  int64_t from_ns = 0;  // those before it are not counted
};

// Depends on its options alone: no answer of a server can move an arrival.
class ArrivalSchedule {
 public:
  explicit ArrivalSchedule(const ArrivalOptions& options);

  // The next arrival, in nanoseconds from the start; unset after the last. The first gap is drawn
  // like the others.
  std::optional<int64_t> Next();

 private:
  const ArrivalOptions options_;
  RandomStream random_;
  int64_t drawn_ = 0;
  int64_t counted_ = 0;
  double seconds_ = 0;  // of the last arrival
};

}  // namespace sluice
