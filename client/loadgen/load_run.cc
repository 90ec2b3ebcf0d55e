#include "client/loadgen/load_run.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/loadgen/monotonic_clock.h"

namespace sluice {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
// After Ctrl-C, so that a request that was just being sent is cancelled too.
constexpr int64_t kCancelAgainNs = 50'000'000;

LoadWindow PlanWindow(const LoadOptions& options) {
  LoadWindow window;
  window.start_ns = MonotonicNs();
  window.begin_ns = window.start_ns + absl::ToInt64Nanoseconds(options.warmup);
  if (options.duration != absl::InfiniteDuration()) {
    window.end_ns = window.begin_ns + absl::ToInt64Nanoseconds(options.duration);
  }
  return window;
}

ArrivalOptions PlanArrivals(const LoadOptions& options) {
  const bool endless = options.duration == absl::InfiniteDuration();
  ArrivalOptions arrivals;
  arrivals.process = options.arrivals;
  arrivals.rate = options.rate;
  arrivals.seed = options.seed;
  arrivals.end_ns = endless ? kNever : absl::ToInt64Nanoseconds(options.warmup + options.duration);
  arrivals.count = options.requests;
  arrivals.from_ns = absl::ToInt64Nanoseconds(options.warmup);
  return arrivals;
}

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

}  // namespace

LoadRun::LoadRun(const LoadOptions& options, const RequestPlanner* planner,
                 const LoadChannels& channels, RequestObserver observer)
    : options_(options),
      planner_(planner),
      observer_(std::move(observer)),
      window_(PlanWindow(options)),
      admission_(window_, options.requests, options.rate > 0 ? options.max_in_flight : kNever),
      timers_(std::make_unique<TimerThread>()) {
  for (int64_t user = 0; user < options_.users; ++user) {
    // Requests use the streams from 0 upwards.
    think_.emplace_back(options_.seed, (uint64_t{1} << 63U) + static_cast<uint64_t>(user));
  }
  for (int i = 0; i < options_.threads; ++i) {
    stats_.push_back(std::make_unique<LoadStats>(window_, options_.objective));
    CallListener* listener = this;
    workers_.push_back(std::make_unique<CallWorker>(&options_.call, timers_.get(), listener,
                                                    channels, stats_.back().get()));
  }
}

LoadResult LoadRun::Run() {
  cpu_at_begin_ = CpuSeconds();
  timers_->At(window_.begin_ns, [this] { cpu_at_begin_ = CpuSeconds(); });
  if (options_.rate > 0) {
    SendArrivals();
  } else {
    StartUsers();
  }
  admission_.AwaitClosed();
  LoadResult result;
  result.window = window_;
  result.window.end_ns = std::min(window_.end_ns, MonotonicNs());
  const double cpu_at_end = CpuSeconds();
  Drain();
  result.interrupted = stopped_;
  result.over_ns = MonotonicNs();
  result.totals = Totals();
  const bool by_count = options_.requests > 0 && result.totals.due >= options_.requests;
  if (by_count && !stopped_) {
    result.window.end_ns = std::min(window_.end_ns, result.totals.last_end_ns);
  }
  result.cpu_seconds = (by_count ? CpuSeconds() : cpu_at_end) - cpu_at_begin_;
  return result;
}

void LoadRun::Stop() {
  stopped_ = true;
  admission_.Close();
}

LoadTotals LoadRun::Totals() const {
  LoadTotals totals;
  for (const auto& stats : stats_) totals.Merge(stats->Copy());
  return totals;
}

LoadProgress LoadRun::Progress() const { return {Totals(), window_, admission_.in_flight()}; }

void LoadRun::SendArrivals() {
  prctl(PR_SET_TIMERSLACK, 1);  // as in TimerThread
  ArrivalSchedule schedule(PlanArrivals(options_));
  uint64_t index = 0;
  while (const std::optional<int64_t> arrival = schedule.Next()) {
    const int64_t due_ns = window_.start_ns + *arrival;
    RequestPlan plan = planner_->Plan(index++);
    if (!admission_.SleepUntil(due_ns)) return;
    const std::optional<Ticket> ticket = admission_.Admit(due_ns);
    if (!ticket.has_value()) return;
    if (ticket->in_flight) {
      Send(std::move(plan), *ticket, due_ns, /*user=*/-1);
    } else {
      CountNotSent(plan, *ticket, due_ns);
    }
  }
}

void LoadRun::Send(RequestPlan plan, const Ticket& ticket, int64_t due_ns, int64_t user) {
  CallStart start;
  start.plan = std::move(plan);
  start.due_ns = due_ns;
  start.measured = ticket.measured;
  start.user = user;
  const uint64_t place = user >= 0 ? static_cast<uint64_t>(user) : ticket.index;
  workers_[place % workers_.size()]->Start(std::move(start));
}

void LoadRun::CountNotSent(const RequestPlan& plan, const Ticket& ticket, int64_t due_ns) {
  RequestRecord record;
  record.index = ticket.index;
  record.kind = plan.kind;
  record.measured = ticket.measured;
  record.due_ns = due_ns;
  record.end_ns = due_ns;
  record.end = RequestEnd::kError;
  record.error = "NOT_SENT";
  record.message = absl::StrCat("more than --max-in-flight ", options_.max_in_flight,
                                " requests were waiting for their answers");
  stats_[0]->OnDue(record);
  stats_[0]->OnEnd(record);
  if (observer_ != nullptr) observer_({plan, record, {}, {}, nullptr});
}

void LoadRun::StartUsers() {
  for (int64_t user = 0; user < options_.users; ++user) NextOfUser(user, MonotonicNs());
}

void LoadRun::NextOfUser(int64_t user, int64_t due_ns) {
  const std::optional<Ticket> ticket = admission_.Admit(due_ns);
  if (!ticket.has_value()) return;
  Send(planner_->Plan(ticket->index), *ticket, due_ns, user);
}

void LoadRun::AfterCallOfUser(const GenerateCall& call) {
  const int64_t user = call.user();
  absl::Duration pause = options_.think_time;
  if (options_.exponential_think) pause *= think_[static_cast<size_t>(user)].Exponential();
  if (call.record().end == RequestEnd::kError) pause += options_.error_pause;
  const int64_t due_ns = call.record().end_ns + absl::ToInt64Nanoseconds(pause);
  if (pause == absl::ZeroDuration()) {
    NextOfUser(user, due_ns);
  } else {
    timers_->At(due_ns, [this, user, due_ns] { NextOfUser(user, due_ns); });
  }
}

void LoadRun::OnCallEnd(const GenerateCall& call) {
  if (observer_ != nullptr) {
    observer_({call.plan(), call.record(), call.text(), call.token_ids(),
               call.finished().has_value() ? &*call.finished() : nullptr});
  }
  if (call.user() >= 0) AfterCallOfUser(call);
  admission_.Leave();
}

void LoadRun::Drain() {
  const int64_t until_ns = MonotonicNs() + absl::ToInt64Nanoseconds(options_.drain);
  while (!stopped_ && MonotonicNs() < until_ns) {
    const int64_t look_again_ns = std::min(until_ns, MonotonicNs() + kCancelAgainNs);
    if (admission_.CloseWhenIdle(look_again_ns)) return;
  }
  admission_.Close();
  while (!admission_.CloseWhenIdle(MonotonicNs())) {
    const RequestEnd why = stopped_ ? RequestEnd::kInterrupted : RequestEnd::kError;
    for (const auto& worker : workers_) worker->AbandonAll(why);
    admission_.CloseWhenIdle(MonotonicNs() + kCancelAgainNs);
  }
}

}  // namespace sluice
