// Tokens a second of a whole engine: prefill of one prompt, and decode of many sequences at once.
//
//   engine_bench --model DIR [--device cpu|cuda] [--dtype bfloat16|float32] [--decode 1,16,64]
//                [--prefill 4096,16384] [--threads N] [--step_tokens N] [--repeats N]
//
// Prompts are random token ids, so that any checkpoint will do. Decode figures come from the steps
// in which every sequence decodes and nothing is prefilled; prefill figures from the first planned
// step to the first token. Prints one line a figure, the median of the repeats.

#include "engine/engine.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"

ABSL_FLAG(std::string, model, "", "Hugging Face model directory; needs no tokenizer");
ABSL_FLAG(std::string, device, "auto", "auto, cpu, cuda or cuda:N");
ABSL_FLAG(std::string, dtype, "auto", "auto, bfloat16 or float32");
ABSL_FLAG(int32_t, threads, 0, "CPU threads; 0: all");
ABSL_FLAG(int32_t, step_tokens, 0, "tokens a step; 0: the engine's default");
ABSL_FLAG(std::string, decode, "1,16", "sequences that decode at once, comma separated");
ABSL_FLAG(std::string, prefill, "4096", "lengths of single prompts, comma separated");
ABSL_FLAG(int32_t, output, 128, "tokens that each decoding sequence generates");
ABSL_FLAG(int32_t, repeats, 5, "runs of each figure");

namespace sluice {
namespace {

class WaitingSink : public Sink {
 public:
  void OnOutput(Output /*output*/) override {}
  void OnDone(Outcome outcome) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    outcome_ = std::move(outcome);
    done_.notify_all();
  }
  SinkState State() const override { return SinkState::kReady; }
  Outcome Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return outcome_.has_value(); });
    return *outcome_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  std::optional<Outcome> outcome_;
};

// Keeps what the engine says of its steps.
class StepLog : public EngineObserver {
 public:
  void OnStep(const StepRecord& record) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    steps_.push_back(record);
  }
  void OnFirstToken(double /*seconds*/) override {}
  void OnNextToken(double /*seconds*/) override {}
  void OnDone(const Outcome& /*outcome*/) override {}

  std::vector<StepRecord> Take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::exchange(steps_, {});
  }

 private:
  std::mutex mutex_;
  std::vector<StepRecord> steps_;
};

std::vector<int32_t> Numbers(const std::string& list) {
  std::vector<int32_t> numbers;
  for (const auto& item : absl::StrSplit(list, ',', absl::SkipEmpty())) {
    int32_t number = 0;
    if (!absl::SimpleAtoi(item, &number) || number < 1) {
      std::fprintf(stderr, "engine_bench: \"%s\" is no list of positive numbers\n", list.c_str());
      std::exit(2);
    }
    numbers.push_back(number);
  }
  return numbers;
}

Request RandomPrompt(const EngineInfo& info, int32_t length, int32_t output, uint64_t seed) {
  std::mt19937_64 random(seed);
  Request request;
  request.token_ids.emplace();
  request.token_ids->reserve(length);
  for (int32_t i = 0; i < length; ++i) {
    request.token_ids->push_back(static_cast<int64_t>(random() % info.vocab_size));
  }
  request.stopping.max_tokens = output;
  request.stopping.ignore_eos = true;
  request.sampling.seed = seed;
  return request;
}

std::vector<Outcome> RunAll(Engine* engine, std::vector<Request> requests) {
  std::vector<std::shared_ptr<WaitingSink>> sinks;
  for (Request& request : requests) {
    sinks.push_back(std::make_shared<WaitingSink>());
    const absl::Status status = engine->Submit(std::move(request), sinks.back());
    if (!status.ok()) {
      std::fprintf(stderr, "engine_bench: %s\n", status.ToString().c_str());
      std::exit(1);
    }
  }
  std::vector<Outcome> outcomes;
  outcomes.reserve(sinks.size());
  for (auto& sink : sinks) outcomes.push_back(sink->Wait());
  return outcomes;
}

// Resident memory of this process now, in MiB.
double ResidentMiB() {
  int64_t pages = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr || std::fscanf(file, "%*d %ld", &pages) != 1) pages = 0;
  if (file != nullptr) std::fclose(file);
  return static_cast<double>(pages * sysconf(_SC_PAGESIZE)) / 1048576.0;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void BenchDecode(Engine* engine, StepLog* log, int32_t batch) {
  std::vector<double> seconds_a_step;
  for (int32_t repeat = 0; repeat < absl::GetFlag(FLAGS_repeats); ++repeat) {
    std::vector<Request> requests;
    requests.reserve(batch);
    for (int32_t i = 0; i < batch; ++i) {
      requests.push_back(RandomPrompt(engine->info(), 64, absl::GetFlag(FLAGS_output), i));
    }
    log->Take();
    RunAll(engine, std::move(requests));
    double seconds = 0;
    int32_t steps = 0;
    for (const StepRecord& step : log->Take()) {
      if (step.decode_rows != batch || step.prefill_rows > 0) continue;
      seconds += step.seconds;
      ++steps;
    }
    if (steps > 0) seconds_a_step.push_back(seconds / steps);
  }
  if (seconds_a_step.empty()) {
    std::printf("decode B=%d: no step had all rows; --output is too small\n", batch);
    return;
  }
  const double median = Median(seconds_a_step);
  std::printf("decode  B=%-4d %9.3f ms a step %10.0f tok/s\n", batch, median * 1e3, batch / median);
}

void BenchPrefill(Engine* engine, int32_t length) {
  std::vector<double> seconds;
  for (int32_t repeat = 0; repeat < absl::GetFlag(FLAGS_repeats); ++repeat) {
    const Request request = RandomPrompt(engine->info(), length, 1, repeat);
    seconds.push_back(RunAll(engine, {request})[0].prefill_seconds);
  }
  const double median = Median(seconds);
  std::printf("prefill 1x%-6d %9.3f ms        %10.0f tok/s\n", length, median * 1e3,
              length / median);
}

int Main() {
  EngineConfig config;
  config.model_dir = absl::GetFlag(FLAGS_model);
  config.needs_tokenizer = false;
  config.device = absl::GetFlag(FLAGS_device);
  config.dtype = absl::GetFlag(FLAGS_dtype);
  config.threads = absl::GetFlag(FLAGS_threads);
  config.max_step_tokens = absl::GetFlag(FLAGS_step_tokens);
  StepLog log;
  const absl::Time start = absl::Now();
  auto engine = Engine::Create(config, &log, nullptr);
  if (!engine.ok()) {
    std::fprintf(stderr, "engine_bench: %s\n", engine.status().ToString().c_str());
    return 1;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const EngineInfo& info = (*engine)->info();
  std::printf(
      "%s, %s, %.1f M weights (%.1f MiB), state %.2f MiB a slot, %d slots, %d tokens a step\n",
      info.device.c_str(), info.weight_dtype.c_str(), info.parameters / 1e6,
      info.weight_bytes / 1048576.0, info.state_bytes / 1048576.0, info.state_slots,
      info.max_step_tokens);
  std::printf("load    %9.3f s, host memory %.1f MiB at the peak, %.1f MiB after\n",
              absl::ToDoubleSeconds(absl::Now() - start), usage.ru_maxrss / 1024.0, ResidentMiB());
  for (const int32_t length : Numbers(absl::GetFlag(FLAGS_prefill))) {
    BenchPrefill(engine->get(), length);
  }
  for (const int32_t batch : Numbers(absl::GetFlag(FLAGS_decode))) {
    BenchDecode(engine->get(), &log, batch);
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return sluice::Main();
}
