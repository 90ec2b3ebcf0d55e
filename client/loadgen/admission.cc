#include "client/loadgen/admission.h"

#include <chrono>
#include <limits>

#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

std::chrono::steady_clock::time_point TimePoint(int64_t ns) {
  return std::chrono::steady_clock::time_point(std::chrono::nanoseconds(ns));
}

}  // namespace

bool Admission::ClosedLocked(int64_t ns) const {
  return closed_ || ns >= window_.end_ns || (requests_ > 0 && measured_ >= requests_);
}

std::optional<Ticket> Admission::Admit(int64_t due_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (ClosedLocked(due_ns)) return std::nullopt;
  Ticket ticket;
  ticket.index = next_index_++;
  ticket.measured = due_ns >= window_.begin_ns;
  ticket.in_flight = in_flight_ < max_in_flight_;
  if (ticket.measured) ++measured_;
  if (ticket.in_flight) ++in_flight_;
  if (requests_ > 0 && measured_ >= requests_) changed_.notify_all();
  return ticket;
}

void Admission::Leave() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --in_flight_;
  if (in_flight_ == 0) changed_.notify_all();
}

void Admission::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void Admission::AwaitClosed() {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto closed = [this] { return ClosedLocked(MonotonicNs()); };
  if (window_.end_ns == std::numeric_limits<int64_t>::max()) {
    changed_.wait(lock, closed);
  } else {
    changed_.wait_until(lock, TimePoint(window_.end_ns), closed);
  }
}

bool Admission::SleepUntil(int64_t ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait_until(lock, TimePoint(ns), [&] { return closed_ || MonotonicNs() >= ns; });
  return !closed_;
}

bool Admission::CloseWhenIdle(int64_t until_ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (!changed_.wait_until(lock, TimePoint(until_ns), [this] { return in_flight_ == 0; })) {
    return false;
  }
  closed_ = true;
  return true;
}

int64_t Admission::in_flight() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return in_flight_;
}

}  // namespace sluice
