// The load of `sluice-loadgen --users`, on an engine in this process: what is left of it through
// gRPC says what gRPC, the server and the load generator cost.
//
//   engine_load --model DIR --users N [--device cpu|cuda] [--slots N] [--prompt_tokens LENGTHS]
//               [--output_tokens LENGTHS] [--warmup 5s] [--duration 20s]
//
// Each user submits the requests that sluice-loadgen would send (plain ones, ended by their number
// of tokens alone) and the next as soon as one is over. Prints one JSON object: tokens and requests
// a second within the measured phase, and its inter-token latencies in seconds.

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/loadgen/latency_histogram.h"
#include "client/loadgen/request_planner.h"
#include "engine/engine.h"
#include "server/request_mapping.h"

ABSL_FLAG(std::string, model, "models/demo", "Hugging Face model directory");
ABSL_FLAG(std::string, device, "auto", "auto, cpu, cuda or cuda:N");
ABSL_FLAG(int32_t, slots, 0, "sequences at once; 0: the engine's default");
ABSL_FLAG(int32_t, users, 16, "requests that are under way at any time");
ABSL_FLAG(std::string, prompt_tokens, "64", "a distribution, as of sluice-loadgen");
ABSL_FLAG(std::string, output_tokens, "64", "a distribution, as of sluice-loadgen");
ABSL_FLAG(absl::Duration, warmup, absl::Seconds(5), "not measured");
ABSL_FLAG(absl::Duration, duration, absl::Seconds(20), "measured");

namespace sluice {
namespace {

// Counts what the engine delivers within the measured phase.
class Meter : public EngineObserver {
 public:
  void Begin() {
    const std::lock_guard<std::mutex> lock(mutex_);
    begin_ = absl::Now();
  }

  void OnStep(const StepRecord& record) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (begin_ == absl::InfiniteFuture()) return;
    tokens_ += record.output_tokens;
    step_seconds_ += record.seconds;
  }
  void OnFirstToken(double /*seconds_since_arrival*/) override {}
  void OnNextToken(double seconds_since_previous) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (begin_ == absl::InfiniteFuture()) return;
    gaps_.Record(static_cast<int64_t>(seconds_since_previous * 1e9));
  }
  void OnDone(const Outcome& /*outcome*/) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (begin_ != absl::InfiniteFuture()) ++requests_;
  }

  void Print() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
    std::printf(
        "{\"seconds\": %.3f, \"output_tokens_per_second\": %.1f, \"requests_per_second\": %.2f, "
        "\"step_share\": %.4f, \"inter_token_seconds\": {\"p50\": %.6f, \"p99\": %.6f}}\n",
        seconds, static_cast<double>(tokens_) / seconds, static_cast<double>(requests_) / seconds,
        step_seconds_ / seconds, static_cast<double>(gaps_.Percentile(50)) * 1e-9,
        static_cast<double>(gaps_.Percentile(99)) * 1e-9);
  }

 private:
  std::mutex mutex_;
  absl::Time begin_ = absl::InfiniteFuture();
  int64_t tokens_ = 0;
  int64_t requests_ = 0;
  double step_seconds_ = 0;
  LatencyHistogram gaps_;
};

// Users whose request is over.
class Idle {
 public:
  void Add() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++count_;
    changed_.notify_one();
  }
  // False once `deadline` has passed.
  bool Take(absl::Time deadline) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!changed_.wait_until(lock, absl::ToChronoTime(deadline), [this] { return count_ > 0; })) {
      return false;
    }
    --count_;
    return true;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int32_t count_ = 0;
};

class UserSink : public Sink {
 public:
  explicit UserSink(Idle* idle) : idle_(idle) {}
  void OnOutput(Output /*output*/) override {}
  void OnDone(Outcome /*outcome*/) override { idle_->Add(); }
  SinkState State() const override { return SinkState::kReady; }

 private:
  Idle* const idle_;
};

template <typename T>
T OrExit(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::fprintf(stderr, "engine_load: %s\n", value.status().ToString().c_str());
  std::exit(1);
}

RequestPlanner MakePlanner(const EngineInfo& info) {
  WorkloadOptions workload;
  workload.prompt_tokens = OrExit(LengthDistribution::Parse(absl::GetFlag(FLAGS_prompt_tokens)));
  workload.output_tokens = OrExit(LengthDistribution::Parse(absl::GetFlag(FLAGS_output_tokens)));
  workload.ignore_eos = true;
  v1::GetModelResponse model;
  SetModel(info, ClientLimits(), &model);
  return OrExit(RequestPlanner::Make(workload, model));
}

int Main() {
  EngineConfig config;
  config.model_dir = absl::GetFlag(FLAGS_model);
  config.device = absl::GetFlag(FLAGS_device);
  if (absl::GetFlag(FLAGS_slots) > 0) config.state_slots = absl::GetFlag(FLAGS_slots);
  Meter meter;
  const auto engine = OrExit(Engine::Create(config, &meter, nullptr));
  const RequestPlanner planner = MakePlanner(engine->info());
  Idle idle;
  for (int32_t user = 0; user < absl::GetFlag(FLAGS_users); ++user) idle.Add();
  uint64_t index = 0;
  const auto run_until = [&](absl::Time deadline) {
    while (idle.Take(deadline)) {
      const absl::Status status = engine->Submit(ToRequest(planner.Plan(index++).message),
                                                 std::make_shared<UserSink>(&idle));
      if (status.ok()) continue;
      std::fprintf(stderr, "engine_load: %s\n", status.ToString().c_str());
      std::exit(1);
    }
  };
  run_until(absl::Now() + absl::GetFlag(FLAGS_warmup));
  meter.Begin();
  run_until(absl::Now() + absl::GetFlag(FLAGS_duration));
  meter.Print();
  engine->StartDraining();
  engine->FinishDraining(absl::Now());
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return sluice::Main();
}
