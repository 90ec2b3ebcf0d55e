#include "client/loadgen/arrival_schedule.h"

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

constexpr uint64_t kArrivalStream = ~uint64_t{0};  // which no request has

}  // namespace

ArrivalSchedule::ArrivalSchedule(const ArrivalOptions& options)
    : options_(options), random_(options.seed, kArrivalStream) {}

std::optional<int64_t> ArrivalSchedule::Next() {
  if (options_.count > 0 && counted_ >= options_.count) return std::nullopt;
  ++drawn_;
  if (options_.process == ArrivalProcess::kPoisson) {
    seconds_ += random_.Exponential() / options_.rate;
  } else {
    seconds_ = static_cast<double>(drawn_) / options_.rate;
  }
  const double ns = seconds_ * static_cast<double>(kNsPerSecond);
  if (ns >= static_cast<double>(options_.end_ns)) return std::nullopt;
  const auto arrival = static_cast<int64_t>(ns);
  if (arrival >= options_.from_ns) ++counted_;
  return arrival;
}

}  // namespace sluice
