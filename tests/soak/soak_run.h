// Users who send the requests of a soak, and write down what came of each.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <vector>

#include "absl/time/time.h"
#include "client/loadgen/call_worker.h"
#include "client/loadgen/load_stats.h"
#include "client/loadgen/server_channels.h"
#include "client/loadgen/timer_thread.h"
#include "tests/soak/soak_schedule.h"

namespace sluice {

struct SoakOptions {
  int64_t users = 1;
  absl::Duration duration = absl::InfiniteDuration();  // after it, nothing new is sent
  CallOptions call;                                    // with keep_output
};

// A closed loop. A request that a server turns away because it is ending or starting is sent again,
// a little later, until it is taken.
class SoakRun : private CallListener {
 public:
  // All outlive the run. A line of JSON goes to `out` for each attempt that is over.
  SoakRun(const SoakOptions& options, const SoakSchedule* schedule, const LoadChannels& channels,
          std::FILE* out);

  // Blocks until every user has nothing more to send. Once.
  void Run();

 private:
  // What a user is at.
  struct Place {
    size_t request = 0;
    int attempt = 0;
  };

  void OnCallEnd(const GenerateCall& call) override;
  void NextOfUser(int64_t user);
  void Send(int64_t user, Place place);

  const SoakOptions options_;
  const SoakSchedule* const schedule_;
  std::FILE* const out_;
  const int64_t until_ns_;
  LoadStats stats_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t next_ = 0;            // guarded by mutex_
  int64_t users_at_work_;      // guarded by mutex_
  std::vector<Place> places_;  // of each user; guarded by mutex_
  // Destroyed in reverse order: the timers' actions use the worker.
  std::unique_ptr<CallWorker> worker_;
  std::unique_ptr<TimerThread> timers_;
};

}  // namespace sluice
