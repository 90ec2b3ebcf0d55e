// Sends a load of requests to a server and counts what comes back.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/loadgen/admission.h"
#include "client/loadgen/arrival_schedule.h"
#include "client/loadgen/call_worker.h"
#include "client/loadgen/load_stats.h"
#include "client/loadgen/objective.h"
#include "client/loadgen/random_stream.h"
#include "client/loadgen/request_planner.h"
#include "client/loadgen/server_channels.h"
#include "client/loadgen/timer_thread.h"

namespace sluice {

struct LoadOptions {
  uint64_t seed = 0;
  // A closed loop: each user sends a request, waits for its end, thinks, and sends the next.
  int64_t users = 1;
  absl::Duration think_time = absl::ZeroDuration();
  bool exponential_think = false;                        // of that mean; else always as long
  absl::Duration error_pause = absl::Milliseconds(100);  // besides, after a request that failed
  // Or an open loop, if the rate is above 0: requests are sent when they are due, whatever becomes
  // of those before them.
  double rate = 0;  // a second
  ArrivalProcess arrivals = ArrivalProcess::kPoisson;
  int64_t max_in_flight = 4096;  // one more is not sent, and is an error

  absl::Duration warmup = absl::ZeroDuration();  // nothing due in it is measured
  absl::Duration duration = absl::InfiniteDuration();
  int64_t requests = 0;  // measured at most; 0: as many as there are until the duration is over
  absl::Duration drain = absl::Seconds(30);  // then what is not answered is cancelled

  int threads = 1;
  Objective objective;
  CallOptions call;
};

// A request that is over, lent for the length of the call.
struct FinishedRequest {
  const RequestPlan& plan;
  const RequestRecord& record;
  // With CallOptions.keep_output alone.
  const std::string& text;
  const std::vector<uint32_t>& token_ids;
  const v1::Finished* finished;  // null if the server did not say
};

// Called from several threads at once, warm-up included. Holds its worker up as long as it takes.
using RequestObserver = std::function<void(const FinishedRequest&)>;

struct LoadResult {
  LoadTotals totals;
  LoadWindow window;    // its end is where the measured phase really ended
  int64_t over_ns = 0;  // the end of the drain
  bool interrupted = false;
  double cpu_seconds = 0;  // of this process, within the window
};

struct LoadProgress {
  LoadTotals totals;
  LoadWindow window;  // as planned
  int64_t in_flight = 0;
};

class LoadRun : private CallListener {
 public:
  // All outlive the run. `observer` may be null.
  LoadRun(const LoadOptions& options, const RequestPlanner* planner, const LoadChannels& channels,
          RequestObserver observer);

  // Blocks until the load is over. Once.
  LoadResult Run();

  // Ends the run early: nothing more is sent, and what is in flight is cancelled. Thread-safe.
  void Stop();

  // Thread-safe.
  LoadProgress Progress() const;

 private:
  void OnCallEnd(const GenerateCall& call) override;
  void SendArrivals();
  void StartUsers();
  void NextOfUser(int64_t user, int64_t due_ns);
  void AfterCallOfUser(const GenerateCall& call);
  void Send(RequestPlan plan, const Ticket& ticket, int64_t due_ns, int64_t user);
  void CountNotSent(const RequestPlan& plan, const Ticket& ticket, int64_t due_ns);
  void Drain();
  LoadTotals Totals() const;

  const LoadOptions options_;
  const RequestPlanner* const planner_;
  const RequestObserver observer_;
  const LoadWindow window_;
  std::atomic<bool> stopped_{false};
  std::atomic<double> cpu_at_begin_{0};  // seconds, when the measured phase began
  Admission admission_;
  std::vector<RandomStream> think_;                // of each user
  std::vector<std::unique_ptr<LoadStats>> stats_;  // of each worker
  // Destroyed in reverse order: the timers' actions use the workers.
  std::vector<std::unique_ptr<CallWorker>> workers_;
  std::unique_ptr<TimerThread> timers_;
};

}  // namespace sluice
