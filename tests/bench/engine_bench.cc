// Tokens a second of a whole engine: prefill of prompts, and decode of many sequences at once.
//
//   engine_bench --model DIR [--device cpu|cuda] [--dtype bfloat16|float32] [--decode 1,16,64]
//                [--context 1024,65536] [--prefill 4096,8x2048] [--threads N]
//                [--deterministic auto|true|false] [--weight_type checkpoint|fp8]
//                [--state_type float32|float16|int8] [--state_ring N]
//                [--step_tokens N] [--repeats N]
//
// Prompts are random token ids, so that any checkpoint will do. Decode figures come from the steps
// in which every sequence decodes and nothing is prefilled, with --context after prompts of so many
// tokens; prefill figures from the first planned step to the last first token. Prints one line a
// figure, the median of the repeats, with its share of the roofline. For decode that is the weights
// read once and the states read and written, at the speed of a copy. For prefill it is two
// operations a weight and token and those of the recurrence, at the speed of a matrix product, or,
// if that takes longer, the weights read once a step and each state written once, at the speed of a
// copy. Both speeds are measured before.

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
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/model_config.h"
#include "engine/open_device.h"
#include "kernels/gated_chunk.h"
#include "kernels/segment.h"
#include "tests/bench/kernel_timer.h"

ABSL_FLAG(std::string, model, "", "Hugging Face model directory; needs no tokenizer");
ABSL_FLAG(std::string, device, "auto", "auto, cpu, cuda or cuda:N");
ABSL_FLAG(std::string, dtype, "auto", "auto, bfloat16 or float32");
ABSL_FLAG(int32_t, threads, 0, "CPU threads; 0: all");
ABSL_FLAG(std::string, weight_type, "checkpoint", "as sluice-server's");
ABSL_FLAG(std::string, state_type, "float32", "as sluice-server's");
ABSL_FLAG(int32_t, state_ring, 0, "as sluice-server's");
ABSL_FLAG(std::string, deterministic, "auto", "as sluice-server's");
ABSL_FLAG(int32_t, step_tokens, 0, "tokens a step; 0: the engine's default");
ABSL_FLAG(std::string, decode, "1,16", "sequences that decode at once, comma separated");
ABSL_FLAG(std::string, context, "",
          "tokens of the prompts before decode, comma separated; empty: 64");
ABSL_FLAG(std::string, prefill, "4096", "prompts: LENGTH or COUNTxLENGTH, comma separated");
ABSL_FLAG(int32_t, output, 128, "tokens that each decoding sequence generates");
ABSL_FLAG(int32_t, repeats, 5, "runs of each figure");

namespace sluice {
namespace {

constexpr int32_t kShortContext = 64;  // tokens, where no other is asked for

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

int32_t Number(absl::string_view text) {
  int32_t number = 0;
  if (absl::SimpleAtoi(text, &number) && number >= 1) return number;
  std::fprintf(stderr, "engine_bench: \"%s\" is no positive number\n", std::string(text).c_str());
  std::exit(2);
}

std::vector<std::string> Items(const std::string& list) {
  return absl::StrSplit(list, ',', absl::SkipEmpty());
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

// What a model costs at least.
struct Floor {
  Ceilings ceilings;
  double weight_bytes;  // that a step reads, whatever its rows
  double token_flops;   // of the prefill of a token
  double state_bytes;
  double state_passes;  // of decode over a state: read, and written in one step of some
  int32_t step_tokens;

  double DecodeSeconds(int32_t batch) const {
    return (weight_bytes + state_passes * batch * state_bytes) / ceilings.copy_bytes_per_second;
  }
  double PrefillSeconds(int32_t prompts, int64_t tokens) const {
    const int64_t steps = (tokens + step_tokens - 1) / step_tokens;
    const double bytes = static_cast<double>(steps) * weight_bytes + prompts * state_bytes;
    return std::max(token_flops * static_cast<double>(tokens) / ceilings.product_flops_per_second,
                    bytes / ceilings.copy_bytes_per_second);
  }
};

// Of all layers, a token: those of dense chunks or, of a selective scan, five a number of the state
// (decay, add, read). Columns for a normaliser are not counted.
double RecurrenceFlops(const EngineInfo& info) {
  const GatedShape shape = {.heads = info.num_heads,
                            .kv_heads = info.num_kv_heads,
                            .key_dim = info.head_key_dim,
                            .value_dim = info.head_value_dim};
  const bool scan = info.model_type == "mamba";
  return static_cast<double>(info.num_layers) *
         static_cast<double>(scan ? 5 * shape.StateSize() : GatedChunkFlops(shape, 1));
}

// The embedding is no product, and the head is one for the last token of a prompt alone.
Floor FloorOf(const EngineInfo& info, const ModelConfig& model, const Ceilings& ceilings) {
  const double table = static_cast<double>(info.vocab_size) * info.hidden_size;
  const double all = static_cast<double>(info.parameters);
  const double table_bytes = table * (info.weight_dtype == "float32" ? 4 : 2);
  return {.ceilings = ceilings,
          .weight_bytes = static_cast<double>(info.weight_bytes) -
                          (model.tie_word_embeddings ? 0 : table_bytes),
          .token_flops =
              2 * (all - (model.tie_word_embeddings ? 1 : 2) * table) + RecurrenceFlops(info),
          .state_bytes = static_cast<double>(info.state_bytes),
          .state_passes = 1 + 1.0 / std::max(absl::GetFlag(FLAGS_state_ring), 1),
          .step_tokens = info.max_step_tokens};
}

// Sequences whose prompts are done decode beside the prompts of the others, and must go on when the
// last of these is done.
void BenchDecode(Engine* engine, StepLog* log, const Floor& floor, int32_t batch, int32_t context) {
  const int32_t step_prompt = std::max(floor.step_tokens - batch - kChunk, kChunk);
  const int64_t prompt_steps = int64_t{batch} * context / step_prompt + batch;
  const auto output = static_cast<int32_t>(absl::GetFlag(FLAGS_output) + prompt_steps);
  std::vector<double> seconds_a_step;
  for (int32_t repeat = 0; repeat < absl::GetFlag(FLAGS_repeats); ++repeat) {
    std::vector<Request> requests;
    requests.reserve(batch);
    for (int32_t i = 0; i < batch; ++i) {
      requests.push_back(RandomPrompt(engine->info(), context, output, i));
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
  const std::string after =
      absl::GetFlag(FLAGS_context).empty() ? "" : absl::StrCat(" after ", context, " tokens");
  std::printf("decode  B=%-7d%s %9.3f ms a step %10.0f tok/s %5.1f %% of the roofline\n", batch,
              after.c_str(), median * 1e3, batch / median,
              100 * floor.DecodeSeconds(batch) / median);
}

void BenchPrefill(Engine* engine, const Floor& floor, int32_t count, int32_t length) {
  std::vector<double> seconds;
  for (int32_t repeat = 0; repeat < absl::GetFlag(FLAGS_repeats); ++repeat) {
    std::vector<Request> requests;
    requests.reserve(count);
    for (int32_t i = 0; i < count; ++i) {
      requests.push_back(RandomPrompt(engine->info(), length, 1, repeat * count + i));
    }
    double last = 0;
    for (const Outcome& outcome : RunAll(engine, std::move(requests))) {
      last = std::max(last, outcome.queue_seconds + outcome.prefill_seconds);
    }
    seconds.push_back(last);
  }
  const double median = Median(seconds);
  const int64_t tokens = int64_t{count} * length;
  std::printf("prefill %dx%-7d %9.3f ms        %10.0f tok/s %5.1f %% of the roofline\n", count,
              length, median * 1e3, static_cast<double>(tokens) / median,
              100 * floor.PrefillSeconds(count, tokens) / median);
}

// In what memory the engine left, once what loading took has been looked at.
Ceilings MeasureCeilingsOf(const EngineConfig& config) {
  const absl::StatusOr<std::unique_ptr<Device>> device = OpenDevice(config);
  if (device.ok()) return MeasureCeilings(**device);
  std::fprintf(stderr, "engine_bench: %s\n", device.status().ToString().c_str());
  std::exit(1);
}

std::vector<int32_t> Contexts() {
  std::vector<int32_t> contexts;
  for (const std::string& item : Items(absl::GetFlag(FLAGS_context))) {
    contexts.push_back(Number(item));
  }
  if (contexts.empty()) contexts.push_back(kShortContext);
  return contexts;
}

int Main() {
  EngineConfig config;
  config.model_dir = absl::GetFlag(FLAGS_model);
  config.needs_tokenizer = false;
  config.device = absl::GetFlag(FLAGS_device);
  config.dtype = absl::GetFlag(FLAGS_dtype);
  config.threads = absl::GetFlag(FLAGS_threads);
  config.deterministic = absl::GetFlag(FLAGS_deterministic);
  config.max_step_tokens = absl::GetFlag(FLAGS_step_tokens);
  config.weight_type = absl::GetFlag(FLAGS_weight_type);
  config.state_type = absl::GetFlag(FLAGS_state_type);
  config.state_ring = absl::GetFlag(FLAGS_state_ring);
  const std::vector<int32_t> contexts = Contexts();
  config.max_prompt_tokens =
      std::max(config.max_prompt_tokens, *std::max_element(contexts.begin(), contexts.end()));
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
      "%s, %s, %.1f M weights (%.1f MiB), state %.2f MiB a slot (%s, ring %d), %d slots, %d tokens "
      "a step\n",
      info.device.c_str(), info.weight_dtype.c_str(), info.parameters / 1e6,
      info.weight_bytes / 1048576.0, info.state_bytes / 1048576.0, config.state_type.c_str(),
      config.state_ring, info.state_slots, info.max_step_tokens);
  std::printf("load    %9.3f s, host memory %.1f MiB at the peak, %.1f MiB after\n",
              absl::ToDoubleSeconds(absl::Now() - start), usage.ru_maxrss / 1024.0, ResidentMiB());
  const Ceilings ceilings = MeasureCeilingsOf(config);
  std::printf("copy %.1f GB/s, matrix product %.2f TFLOP/s\n",
              ceilings.copy_bytes_per_second * 1e-9, ceilings.product_flops_per_second * 1e-12);
  const Floor floor = FloorOf(info, *ReadModelConfig(config.model_dir), ceilings);
  std::printf("a token of prefill: %.3f G operations, %.3f of them the recurrence's\n",
              floor.token_flops * 1e-9, RecurrenceFlops(info) * 1e-9);
  for (const std::string& item : Items(absl::GetFlag(FLAGS_prefill))) {
    const std::pair<std::string, std::string> shape = absl::StrSplit(item, absl::MaxSplits('x', 1));
    const bool single = shape.second.empty();
    BenchPrefill(engine->get(), floor, single ? 1 : Number(shape.first),
                 Number(single ? shape.first : shape.second));
  }
  for (const int32_t context : contexts) {
    for (const std::string& item : Items(absl::GetFlag(FLAGS_decode))) {
      BenchDecode(engine->get(), &log, floor, Number(item), context);
    }
  }
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return sluice::Main();
}
