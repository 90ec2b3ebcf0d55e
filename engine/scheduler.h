// Decides which tokens of which sequences the next step works on.
//
// Iteration-level batching: every step takes one token of each sequence that is decoding, and fills
// what is left of the token budget with prompts, first come first served. A prompt is split only
// where its own positions are a multiple of kChunk, so how it was split changes no bit of the
// answer. A sequence gets a slot when it is admitted and keeps it for life; nothing is moved or
// reordered. Used by the engine thread alone.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/sequence.h"
#include "engine/state_pool.h"

namespace sluice {

// A run of prompt tokens [begin, begin + length) of one sequence.
struct PrefillPart {
  Sequence* sequence;
  int32_t begin;
  int32_t length;
};

// A sequence that ends without another step, and why.
struct Ended {
  std::unique_ptr<Sequence> sequence;
  absl::Status status;
};

struct StepPlan {
  std::vector<Sequence*> decode;  // each by its last token
  std::vector<PrefillPart> prefill;
  std::vector<Sequence*> admitted;  // got their slot in this plan
  std::vector<Ended> ended;

  bool empty() const { return decode.empty() && prefill.empty(); }
};

class Scheduler {
 public:
  struct Limits {
    // Rows of a step, at least the pool's slots and kChunk more, so that prompts go on beside any
    // number of decode rows.
    int32_t max_step_tokens;
    absl::Duration stall_limit;     // for a client to leave its stream unread
    absl::Duration max_queue_time;  // from arrival until it has a slot
  };

  // `pool` outlives the scheduler.
  Scheduler(StatePool* pool, const Limits& limits);

  void Add(std::unique_ptr<Sequence> sequence);
  // The next step as of `now`: ends what is past its deadline (DeadlineExceeded, also if it was
  // cancelled at about that time), was cancelled by its client (Cancelled) or an operator
  // (Aborted), has left its stream unread or waited for a slot for too long (ResourceExhausted);
  // admits what there are slots for.
  StepPlan Plan(absl::Time now);
  // Takes a running sequence out, and its slot back.
  std::unique_ptr<Sequence> Remove(Sequence* sequence);
  // Takes out everything, for the end.
  std::vector<std::unique_ptr<Sequence>> RemoveAll();

  int32_t running() const { return static_cast<int32_t>(running_.size()); }
  int32_t waiting() const { return static_cast<int32_t>(waiting_.size()); }

 private:
  absl::Status MustEnd(Sequence* sequence, absl::Time now) const;
  absl::Status WaitedTooLong(const Sequence& sequence, absl::Time now) const;
  void EndSome(absl::Time now, StepPlan* plan);
  void Admit(StepPlan* plan);

  StatePool* pool_;
  const Limits limits_;
  std::deque<std::unique_ptr<Sequence>> waiting_;
  std::vector<std::unique_ptr<Sequence>> running_;  // by admission
};

}  // namespace sluice
