#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/segment.h"

namespace sluice {
namespace {

// gRPC cancels a call at its deadline by its own clock, and the wire carries the deadline as a
// duration, which adds the way here to the server's: a cancellation this close before the deadline
// is the deadline's.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(100);

}  // namespace

Scheduler::Scheduler(StatePool* pool, const Limits& limits) : pool_(pool), limits_(limits) {
  SLUICE_CHECK(limits.max_step_tokens >= pool->total() + kChunk);
}

void Scheduler::Add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }

StepPlan Scheduler::Plan(absl::Time now) {
  StepPlan plan;
  EndSome(now, &plan);
  Admit(&plan);
  for (const auto& sequence : running_) {
    if (sequence->prefilling() || sequence->backlogged != absl::InfiniteFuture()) continue;
    plan.decode.push_back(sequence.get());
  }
  int32_t budget = limits_.max_step_tokens - static_cast<int32_t>(plan.decode.size());
  for (const auto& sequence : running_) {
    if (!sequence->prefilling() || sequence->backlogged != absl::InfiniteFuture()) continue;
    const int32_t begin = sequence->processed;
    int32_t end = std::min(sequence->prompt_length, begin + budget);
    if (end < sequence->prompt_length) end = end / kChunk * kChunk;
    if (end <= begin) break;
    plan.prefill.push_back({sequence.get(), begin, end - begin});
    budget -= end - begin;
  }
  return plan;
}

absl::Status Scheduler::MustEnd(Sequence* sequence, absl::Time now) const {
  const SinkState state = sequence->sink->State();
  const bool cancelled = state == SinkState::kCancelled;
  if (now >= sequence->deadline - (cancelled ? kDeadlineSlack : absl::ZeroDuration())) {
    return absl::DeadlineExceededError(absl::StrCat("the deadline passed after ",
                                                    sequence->output_length(), " of at most ",
                                                    sequence->max_tokens, " tokens"));
  }
  if (cancelled) return absl::CancelledError("the client cancelled");
  if (sequence->live != nullptr && sequence->live->cancelled()) {
    return absl::AbortedError("an operator of the server ended the request");
  }
  if (state == SinkState::kReady) {
    sequence->backlogged = absl::InfiniteFuture();
    return WaitedTooLong(*sequence, now);
  }
  sequence->backlogged = std::min(sequence->backlogged, now);
  if (now - sequence->backlogged < limits_.stall_limit) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat("the client left its stream unread for ",
                                                   absl::FormatDuration(limits_.stall_limit)));
}

// Not of a sequence that has its slot.
absl::Status Scheduler::WaitedTooLong(const Sequence& sequence, absl::Time now) const {
  if (sequence.slot >= 0 || now - sequence.arrived < limits_.max_queue_time) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("the request waited for ", absl::FormatDuration(limits_.max_queue_time),
                   " (max_queue_time) and no slot became free; try again later"));
}

void Scheduler::EndSome(absl::Time now, StepPlan* plan) {
  const auto sweep = [&](auto* sequences) {
    auto kept = sequences->begin();
    for (auto& sequence : *sequences) {
      absl::Status status = MustEnd(sequence.get(), now);
      if (status.ok()) {
        std::swap(*kept++, sequence);
        continue;
      }
      if (sequence->slot >= 0) pool_->Release(sequence->slot);
      plan->ended.push_back({std::move(sequence), std::move(status)});
    }
    sequences->erase(kept, sequences->end());
  };
  sweep(&running_);
  sweep(&waiting_);
}

void Scheduler::Admit(StepPlan* plan) {
  while (!waiting_.empty()) {
    const int32_t slot = pool_->Acquire();
    if (slot < 0) return;
    waiting_.front()->slot = slot;
    plan->admitted.push_back(waiting_.front().get());
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

std::unique_ptr<Sequence> Scheduler::Remove(Sequence* sequence) {
  const auto at = std::find_if(running_.begin(), running_.end(),
                               [&](const auto& other) { return other.get() == sequence; });
  SLUICE_CHECK(at != running_.end());
  std::unique_ptr<Sequence> removed = std::move(*at);
  running_.erase(at);
  pool_->Release(removed->slot);
  return removed;
}

std::vector<std::unique_ptr<Sequence>> Scheduler::RemoveAll() {
  std::vector<std::unique_ptr<Sequence>> all;
  while (!running_.empty()) all.push_back(Remove(running_.front().get()));
  std::move(waiting_.begin(), waiting_.end(), std::back_inserter(all));
  waiting_.clear();
  return all;
}

}  // namespace sluice
