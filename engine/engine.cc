#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/delivery.h"
#include "engine/runtime.h"
#include "engine/scheduler.h"
#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {
namespace {

using Clock = std::chrono::steady_clock;

// How often sequences that cannot run are looked at again: their deadlines and stall limits pass
// without a Wake.
constexpr auto kIdlePoll = std::chrono::milliseconds(20);

class EngineThread : public Engine {
 public:
  EngineThread(const EngineConfig& config, EngineObserver* observer)
      : config_(config), observer_(observer) {}

  ~EngineThread() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      draining_ = true;
      stopping_ = true;
      poked_ = true;
    }
    wake_.notify_one();
    if (thread_.joinable()) thread_.join();
  }

  // Starts the thread and waits until the model is loaded.
  absl::Status Start(const std::function<void(const std::string&)>& progress);

  const EngineInfo& info() const override { return info_; }
  const Tokenizer& tokenizer() const override { return *runtime_.tokenizer; }

  absl::Status Submit(Request request, std::shared_ptr<Sink> sink) override;
  void Wake() override;
  void StartDraining() override;
  bool FinishDraining(absl::Time deadline) override;
  int32_t CancelRequests(const std::string& id) override;
  std::vector<LiveRequestState> LiveRequests() const override { return live_.States(); }
  EngineGauges Gauges() const override;
  absl::Duration StepAge() const override;

 private:
  // What is still to be told of a sequence.
  struct Dispatch {
    Sequence* sequence;
    Delivery delivery;
    absl::Status status;              // of the end
    absl::Time at;                    // when it came to be known
    std::unique_ptr<Sequence> ended;  // if it is the last
  };

  absl::Status Accept(Request request, std::shared_ptr<Sink> sink, Outcome* record);
  absl::Status TakePlace();
  absl::Status Enqueue(std::unique_ptr<Sequence> sequence);
  absl::Status CountTokens(Sequence* sequence);
  void UncountTokens(Sequence* sequence);
  void GiveBackPlace();

  // The engine thread.
  void Run();
  bool Await();
  void Step();
  std::vector<Dispatch> FinishStep();
  void Plan(std::vector<Dispatch>* dispatches);
  Dispatch MoveOn(Sequence* sequence, int32_t processed, absl::Span<TokenResult> scored,
                  absl::Span<TokenResult> drawn, absl::Time now);
  static Dispatch Leave(std::unique_ptr<Sequence> sequence, absl::Status status, absl::Time now);
  void Deliver(Dispatch dispatch);
  void Stamp(Sequence* sequence, absl::Time now);
  void EndAll(const absl::Status& status);
  void UpdateGauges();

  const EngineConfig config_;
  EngineObserver* const observer_;
  EngineInfo info_;                       // constant once loaded
  RequestLimits limits_;                  // likewise
  Runtime runtime_;                       // device, model and pool: the engine thread's
  std::unique_ptr<Scheduler> scheduler_;  // the engine thread's
  StepPlan plan_;                         // the engine thread's: of the step that runs, or empty
  Clock::time_point planned_at_;          // likewise

  LiveRequestSet live_;

  mutable std::mutex mutex_;
  std::condition_variable wake_;                  // the engine thread waits on it
  std::condition_variable idle_;                  // FinishDraining waits on it
  std::vector<std::unique_ptr<Sequence>> inbox_;  // guarded by mutex_
  bool poked_ = false;          // guarded by mutex_: there is something new to look at
  bool draining_ = false;       // guarded by mutex_
  bool cancel_all_ = false;     // guarded by mutex_: end as cancelled what there is and what comes
  bool stopping_ = false;       // guarded by mutex_
  int32_t in_flight_ = 0;       // guarded by mutex_: accepted and not yet ended
  int64_t waiting_tokens_ = 0;  // guarded by mutex_: of the prompts of those beyond the slots

  std::atomic<int32_t> running_{0};
  std::atomic<int32_t> slots_used_{0};
  std::atomic<int64_t> step_started_ns_{0};  // 0 between steps
  std::thread thread_;
};

absl::Status EngineThread::Start(const std::function<void(const std::string&)>& progress) {
  absl::Status loaded;
  bool done = false;
  thread_ = std::thread([&] {
    absl::StatusOr<Runtime> runtime = LoadRuntime(config_, progress);
    const absl::Status status = runtime.status();
    if (status.ok()) {
      runtime_ = *std::move(runtime);
      info_ = runtime_.info;
      scheduler_ = std::make_unique<Scheduler>(
          runtime_.pool.get(),
          Scheduler::Limits{info_.max_step_tokens, config_.stall_limit, config_.max_queue_time});
    }
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      loaded = status;
      done = true;
      idle_.notify_all();  // the last touch of Start's frame
    }
    if (status.ok()) Run();
    runtime_.ReleaseDevice();
  });
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [&] { return done; });
  limits_ = {info_.vocab_size, info_.max_prompt_tokens, info_.max_output_tokens,
             info_.max_text_bytes};
  return loaded;
}

absl::Status EngineThread::Submit(Request request, std::shared_ptr<Sink> sink) {
  Outcome record;
  // Before anything can fail, so that a refusal has a name in the logs too.
  record.request_id = IdForLogs(request.id);
  if (request.id.empty()) request.id = record.request_id;
  record.origin = request.origin;
  record.kind = request.kind;
  record.status = Accept(std::move(request), std::move(sink), &record);
  if (!record.status.ok() && observer_ != nullptr) observer_->OnDone(record);
  return record.status;
}

absl::Status EngineThread::Accept(Request request, std::shared_ptr<Sink> sink, Outcome* record) {
  const absl::Time arrived = absl::Now();
  if (request.deadline <= arrived) {
    return absl::DeadlineExceededError("the deadline had passed when the request arrived");
  }
  // The place comes first: a server that is full or draining refuses without reading the prompt.
  SLUICE_RETURN_IF_ERROR(TakePlace());
  absl::StatusOr<std::unique_ptr<Sequence>> sequence = MakeSequence(
      std::move(request), limits_, runtime_.model->config().generation, *runtime_.tokenizer);
  if (!sequence.ok()) {
    GiveBackPlace();
    return sequence.status();
  }
  (*sequence)->sink = std::move(sink);
  (*sequence)->arrived = arrived;
  record->prompt_tokens = (*sequence)->prompt_length;
  absl::Status status = Enqueue(*std::move(sequence));
  if (!status.ok()) GiveBackPlace();
  return status;
}

absl::Status EngineThread::Enqueue(std::unique_ptr<Sequence> sequence) {
  const std::lock_guard<std::mutex> lock(mutex_);
  SLUICE_RETURN_IF_ERROR(CountTokens(sequence.get()));
  sequence->live = live_.Add({sequence->id, sequence->origin.peer, sequence->origin.tenant,
                              sequence->kind, sequence->arrived, sequence->prompt_length});
  inbox_.push_back(std::move(sequence));
  poked_ = true;
  wake_.notify_one();
  return absl::OkStatus();
}

// Under mutex_. While no more requests are there than slots, each gets one in the next step.
absl::Status EngineThread::CountTokens(Sequence* sequence) {
  if (in_flight_ <= info_.state_slots) return absl::OkStatus();
  const int64_t tokens = sequence->prompt_length;
  if (waiting_tokens_ > 0 && waiting_tokens_ + tokens > config_.max_waiting_tokens) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the server is full: the requests that wait have ", waiting_tokens_,
        " prompt tokens, and with the ", tokens, " of this one they would be over the limit of ",
        config_.max_waiting_tokens, " (max_waiting_tokens); try again later"));
  }
  sequence->waiting_tokens = tokens;
  waiting_tokens_ += tokens;
  return absl::OkStatus();
}

void EngineThread::UncountTokens(Sequence* sequence) {
  if (sequence->waiting_tokens == 0) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  waiting_tokens_ -= std::exchange(sequence->waiting_tokens, 0);
}

absl::Status EngineThread::TakePlace() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (draining_) return absl::UnavailableError("the server is draining; try another replica");
  if (in_flight_ >= info_.state_slots + info_.max_waiting) {
    return absl::ResourceExhaustedError(absl::StrCat("the server is full: ", info_.state_slots,
                                                     " requests may run and ", info_.max_waiting,
                                                     " may wait; try again later"));
  }
  ++in_flight_;
  return absl::OkStatus();
}

void EngineThread::GiveBackPlace() {
  const std::lock_guard<std::mutex> lock(mutex_);
  --in_flight_;
  idle_.notify_all();
}

void EngineThread::Wake() {
  const std::lock_guard<std::mutex> lock(mutex_);
  poked_ = true;
  wake_.notify_one();
}

int32_t EngineThread::CancelRequests(const std::string& id) {
  const int32_t count = live_.Cancel(id);
  if (count > 0) Wake();
  return count;
}

void EngineThread::StartDraining() {
  const std::lock_guard<std::mutex> lock(mutex_);
  draining_ = true;
}

bool EngineThread::FinishDraining(absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mutex_);
  draining_ = true;
  const auto ended = [this] { return in_flight_ == 0; };
  if (idle_.wait_until(lock, absl::ToChronoTime(deadline), ended)) return true;
  cancel_all_ = true;
  poked_ = true;
  wake_.notify_one();
  idle_.wait(lock, ended);
  return false;
}

EngineGauges EngineThread::Gauges() const {
  EngineGauges gauges;
  gauges.running = running_.load();
  gauges.slots_used = slots_used_.load();
  gauges.slots_total = info_.state_slots;
  const std::lock_guard<std::mutex> lock(mutex_);
  gauges.waiting = std::max(in_flight_ - gauges.running, 0);
  gauges.waiting_tokens = waiting_tokens_;
  return gauges;
}

absl::Duration EngineThread::StepAge() const {
  const int64_t started = step_started_ns_.load();
  if (started == 0) return absl::ZeroDuration();
  return absl::Nanoseconds(Clock::now().time_since_epoch().count() - started);
}

void EngineThread::Run() {
  while (Await()) Step();
  EndAll(absl::UnavailableError("the server was stopped"));
}

// Takes in what was submitted; waits while there is nothing to run. False once the engine is to
// stop.
bool EngineThread::Await() {
  std::unique_lock<std::mutex> lock(mutex_);
  const bool nothing_at_all = scheduler_->running() + scheduler_->waiting() == 0;
  if (nothing_at_all) {
    SLUICE_CHECK(runtime_.pool->Intact(0));
    wake_.wait(lock, [this] { return poked_; });
  }
  poked_ = false;
  for (auto& sequence : inbox_) scheduler_->Add(std::move(sequence));
  inbox_.clear();
  if (stopping_) return false;
  const bool cancel_all = cancel_all_;
  lock.unlock();
  if (cancel_all) EndAll(absl::OkStatus());
  return true;
}

// Splits off the front of `rest` what is about `sequence`.
absl::Span<TokenResult> TakeOf(const Sequence* sequence, absl::Span<TokenResult>* rest) {
  size_t count = 0;
  while (count < rest->size() && (*rest)[count].sequence == sequence) ++count;
  const absl::Span<TokenResult> taken = rest->first(count);
  rest->remove_prefix(count);
  return taken;
}

void EngineThread::Step() {
  step_started_ns_ = Clock::now().time_since_epoch().count();
  std::vector<Dispatch> dispatches = FinishStep();
  Plan(&dispatches);
  if (!plan_.empty()) runtime_.runner->Start(plan_);
  UpdateGauges();
  for (Dispatch& dispatch : dispatches) Deliver(std::move(dispatch));
  if (!plan_.empty()) return;
  step_started_ns_ = 0;
  std::unique_lock<std::mutex> lock(mutex_);
  if (scheduler_->running() > 0) wake_.wait_for(lock, kIdlePoll, [this] { return poked_; });
}

// Waits for the step that runs, if one does, and moves its sequences on.
std::vector<EngineThread::Dispatch> EngineThread::FinishStep() {
  std::vector<Dispatch> dispatches;
  if (plan_.empty()) return dispatches;
  StepResults results = runtime_.runner->Finish();
  const absl::Time now = absl::Now();
  absl::Span<TokenResult> scored = absl::MakeSpan(results.scored);
  absl::Span<TokenResult> drawn = absl::MakeSpan(results.drawn);
  for (Sequence* sequence : plan_.decode) {
    dispatches.push_back(MoveOn(sequence, 1, {}, TakeOf(sequence, &drawn), now));
  }
  StepRecord record = {.decode_rows = static_cast<int32_t>(plan_.decode.size()),
                       .output_tokens = static_cast<int32_t>(results.drawn.size())};
  for (const PrefillPart& part : plan_.prefill) {
    const absl::Span<TokenResult> part_scored = TakeOf(part.sequence, &scored);
    dispatches.push_back(
        MoveOn(part.sequence, part.length, part_scored, TakeOf(part.sequence, &drawn), now));
    record.prefill_rows += part.length;
  }
  plan_ = {};
  record.seconds = std::chrono::duration<double>(Clock::now() - planned_at_).count();
  if (observer_ != nullptr) observer_->OnStep(record);
  return dispatches;
}

// Plans the next step. What must end before it goes to `dispatches`.
void EngineThread::Plan(std::vector<Dispatch>* dispatches) {
  planned_at_ = Clock::now();
  const absl::Time now = absl::Now();
  plan_ = scheduler_->Plan(now);
  for (Ended& ended : plan_.ended) {
    dispatches->push_back(Leave(std::move(ended.sequence), std::move(ended.status), now));
  }
  for (Sequence* sequence : plan_.admitted) {
    UncountTokens(sequence);
    sequence->live->SetRunning();
    runtime_.runner->Admit(*sequence);
  }
  for (const PrefillPart& part : plan_.prefill) {
    part.sequence->planned = std::min(part.sequence->planned, now);
  }
}

EngineThread::Dispatch EngineThread::MoveOn(Sequence* sequence, int32_t processed,
                                            absl::Span<TokenResult> scored,
                                            absl::Span<TokenResult> drawn, absl::Time now) {
  if (!drawn.empty()) Stamp(sequence, now);
  Dispatch dispatch = {
      .sequence = sequence, .delivery = Advance(sequence, processed, scored, drawn), .at = now};
  sequence->live->SetOutputTokens(sequence->output_length());
  if (dispatch.delivery.finish.has_value()) dispatch.ended = scheduler_->Remove(sequence);
  return dispatch;
}

// Of a sequence that ends without having finished.
EngineThread::Dispatch EngineThread::Leave(std::unique_ptr<Sequence> sequence, absl::Status status,
                                           absl::Time now) {
  Dispatch dispatch = {
      .sequence = sequence.get(),
      .delivery = {.output = {}, .finish = Finish{FinishReason::kCancelled, {}, {}}},
      .status = std::move(status),
      .at = now};
  dispatch.ended = std::move(sequence);
  return dispatch;
}

void EngineThread::Deliver(Dispatch dispatch) {
  Sink& sink = *dispatch.sequence->sink;
  Output& output = dispatch.delivery.output;
  if (!output.tokens.empty() || !output.text.empty()) sink.OnOutput(std::move(output));
  if (dispatch.ended == nullptr) return;
  Outcome outcome = MakeOutcome(*dispatch.ended, *dispatch.delivery.finish,
                                std::move(dispatch.status), dispatch.at);
  UncountTokens(dispatch.ended.get());
  live_.Remove(dispatch.ended->live);
  if (observer_ != nullptr) observer_->OnDone(outcome);
  sink.OnDone(std::move(outcome));
  GiveBackPlace();
}

// Notes the time of a drawn token.
void EngineThread::Stamp(Sequence* sequence, absl::Time now) {
  const bool first = sequence->output_length() == 0;
  if (observer_ != nullptr && first) {
    observer_->OnFirstToken(absl::ToDoubleSeconds(now - sequence->arrived));
  } else if (observer_ != nullptr) {
    observer_->OnNextToken(absl::ToDoubleSeconds(now - sequence->last_token));
  }
  if (first) sequence->first_token = now;
  sequence->last_token = now;
}

void EngineThread::EndAll(const absl::Status& status) {
  if (!plan_.empty()) runtime_.runner->Abandon();
  plan_ = {};
  std::vector<Dispatch> dispatches;
  const absl::Time now = absl::Now();
  for (auto& sequence : scheduler_->RemoveAll()) {
    dispatches.push_back(Leave(std::move(sequence), status, now));
  }
  UpdateGauges();
  for (Dispatch& dispatch : dispatches) Deliver(std::move(dispatch));
}

void EngineThread::UpdateGauges() {
  running_ = scheduler_->running();
  slots_used_ = runtime_.pool->used();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineConfig& config, EngineObserver* observer,
    const std::function<void(const std::string&)>& progress) {
  auto engine = std::make_unique<EngineThread>(config, observer);
  SLUICE_RETURN_IF_ERROR(engine->Start(progress));
  return engine;
}

}  // namespace sluice
