// Time, bytes and operations of every op at the shapes of real models.
//
//   kernels_bench --device=cpu|cuda [--threads=N] [--shapes=demo|gla-1.3b|all] [--op=PART]
//                 [--shape=PART]
//
// Every call takes the next of several copies of its operands, so that nothing is found in a cache
// that a model's other layers would have flushed. A time is the median over batches of calls that
// are queued together, on a GPU as one graph, so that it is no time of the host's.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/device.h"
#include "tests/bench/kernel_cases.h"
#include "tests/bench/kernel_timer.h"

namespace sluice {
namespace {

struct ModelShape {
  std::string name;
  int32_t heads;
  int32_t key_dim;
  int32_t value_dim;
  int32_t model_dim;
  int32_t mlp_dim;
};

// Recurrences of other kinds than a model's own, at the sizes of models that have them.
std::vector<Mixer> OtherMixers() {
  constexpr DType kAny = DType::kFloat32;
  constexpr ReadKind kExclusive = ReadKind::kExclusive;
  return {
      {.name = "mamba2 2.7b",
       .shape = {kAny, 64, 64, 128, 64, 1, GateKind::kScalar, false, ReadKind::kInclusive, 64},
       .input_scale = true},
      {.name = "retnet 2.7b", .shape = {kAny, 10, 10, 256, 512, 1, GateKind::kConstant}},
      {.name = "rwkv6 1.6b",
       .shape = {kAny, 32, 32, 64, 64, 1, GateKind::kVector, false, kExclusive}},
      {.name = "dfw 1.3b", .shape = {kAny, 16, 16, 128, 128, 1, GateKind::kVector, true}},
  };
}

void TimeOtherMixers(KernelTimer& timer) {
  const bool is_cpu = timer.device().kind() == DeviceKind::kCpu;
  for (const Mixer& m : OtherMixers()) {
    for (const int32_t rows : {1, 64, 128, 256}) {
      if (!timer.Wants("gated_step") || (is_cpu && rows > 64)) continue;
      TimeGatedStep(timer, m, rows);
    }
    if (!timer.Wants("gated_chunk")) continue;
    TimeGatedChunk(timer, m, 1, 2048);
    if (!is_cpu) TimeGatedChunk(timer, m, 8, 2048);
  }
}

// What a step takes with other gates than a model's own.
void TimeKinds(KernelTimer& timer, const Mixer& mixer) {
  struct Kind {
    const char* name;
    GateKind gate;
    bool value_gate = false;
    ReadKind read = ReadKind::kInclusive;
  };
  for (const Kind& kind : {Kind{" no gate", GateKind::kNone},
                           {" constant gate", GateKind::kConstant},
                           {" scalar gate", GateKind::kScalar},
                           {" two gates", GateKind::kVector, true},
                           {" read exclusively", GateKind::kVector, false, ReadKind::kExclusive}}) {
    Mixer m = mixer;
    m.name += kind.name;
    m.shape.gate = kind.gate;
    m.shape.value_gate = kind.value_gate;
    m.shape.read = kind.read;
    TimeGatedStep(timer, m, 128);
  }
}

// What a step takes where states are rounded.
void TimeFormats(KernelTimer& timer, const Mixer& mixer) {
  const bool is_cpu = timer.device().kind() == DeviceKind::kCpu;
  for (const StateType type : {StateType::kFloat16, StateType::kInt8}) {
    for (const int32_t ring : {0, 16}) {
      for (const int32_t rows : {8, 16, 32, 64, 128, 256}) {
        if (is_cpu && rows > 64) continue;
        TimeGatedReplay(timer, mixer, {type, ring}, rows);
      }
    }
  }
}

void TimeMixer(KernelTimer& timer, const ModelShape& m) {
  const Mixer mixer = {m.name, {DType::kFloat32, m.heads, m.heads, m.key_dim, m.value_dim, 1}};
  const bool is_cpu = timer.device().kind() == DeviceKind::kCpu;
  for (const int32_t rows : {1, 8, 64, 128, 512}) {
    if (!timer.Wants("gated_step") || (is_cpu && rows > 64)) continue;
    TimeGatedStep(timer, mixer, rows);
  }
  for (const int32_t rows : {1, 4, 8, 16, 64}) {
    if (timer.Wants("gated_step with gate and norm")) TimeGatedStepWithParts(timer, mixer, rows);
  }
  if (timer.Wants("gated_step") && !is_cpu) TimeKinds(timer, mixer);
  if (timer.Wants("gated_step")) TimeFormats(timer, mixer);
  if (timer.Wants("gated_chunk")) {
    TimeGatedChunk(timer, mixer, 1, 64);
    TimeGatedChunk(timer, mixer, 1, 2048);
    TimeGatedChunk(timer, mixer, 8, 2048);
    if (!is_cpu) {
      TimeGatedChunk(timer, mixer, 1, 16384);
      TimeGatedChunk(timer, mixer, 1, 32768);
      TimeGatedChunk(timer, mixer, 8, 4096);
      TimeGatedChunk(timer, mixer, 64, 256);
    }
  }
  if (timer.Wants("log_gate")) TimeLogGate(timer, 64, m.heads * m.key_dim);
  if (timer.Wants("log_gate")) TimeLogGate(timer, 2048, m.heads * m.key_dim);
  if (timer.Wants("decay")) {
    const int32_t keys = m.heads * m.key_dim;
    TimeDecay(timer, DecayFormula::kLogSigmoid, "log_sigmoid", 2048, keys);
    TimeDecay(timer, DecayFormula::kLowerBound, "lower_bound", 64, keys);
    TimeDecay(timer, DecayFormula::kLowerBound, "lower_bound", 2048, keys);
    TimeDecay(timer, DecayFormula::kExponential, "exponential", 2048, keys);
    TimeDecay(timer, DecayFormula::kSoftplus, "softplus", 2048, m.heads);
  }
  if (timer.Wants("mlstm_gates")) {
    TimeMlstmGates(timer, m.heads, 64, 0);
    TimeMlstmGates(timer, m.heads, 0, 2048);
    TimeMlstmGates(timer, m.heads, 0, 16384);
  }
  if (timer.Wants("normalizer")) TimeNormalizer(timer, 64, m.heads, m.value_dim);
  if (timer.Wants("normalizer")) TimeNormalizer(timer, 2048, m.heads, m.value_dim);
  if (timer.Wants("feature_map")) {
    TimeFeatureMap(timer, FeatureMapKind::kDpfp, "dpfp", m.heads, 64);
    TimeFeatureMap(timer, FeatureMapKind::kHedgehog, "hedgehog", m.heads, m.key_dim);
    TimeFeatureMap(timer, FeatureMapKind::kSinCos, "sin_cos", m.heads, m.key_dim);
  }
  if (timer.Wants("activation")) TimeActivate(timer, 2048, m.heads * m.key_dim);
  if (timer.Wants("short_conv")) TimeShortConv(timer, m.heads * m.value_dim, 64, 0);
  if (timer.Wants("short_conv")) TimeShortConv(timer, m.heads * m.value_dim, 0, 2048);
  for (const int32_t mixes : {0, 2}) {
    if (timer.Wants("token_shift")) TimeTokenShift(timer, m.model_dim, 64, 0, mixes);
    if (timer.Wants("token_shift")) TimeTokenShift(timer, m.model_dim, 0, 2048, mixes);
  }
  for (const int32_t rows : {64, 2048}) {
    if (timer.Wants("lerp")) TimeLerp(timer, rows, m.model_dim, 1);
    if (timer.Wants("lerp")) TimeLerp(timer, rows, m.model_dim, 5);
    if (timer.Wants("rotary")) TimeRotary(timer, rows, m.heads, m.key_dim);
  }
}

void TimeScans(KernelTimer& timer) {
  if (!timer.Wants("selective_scan")) return;
  TimeSelectiveScan(timer, 1, 0, 0);
  TimeSelectiveScan(timer, 64, 0, 0);
  TimeSelectiveScan(timer, 128, 0, 0);
  TimeSelectiveScan(timer, 0, 1, 2048);
  if (timer.device().kind() == DeviceKind::kCpu) return;
  TimeSelectiveScan(timer, 0, 1, 16384);
  TimeSelectiveScan(timer, 0, 8, 2048);
}

void TimeLayers(KernelTimer& timer, const ModelShape& m) {
  const DType dtype = Activations(timer);
  for (const int32_t rows : {1, 4, 8, 16, 64, 2048}) {
    if (timer.Wants("linear")) {
      TimeLinear(timer, rows, m.model_dim, 2 * m.mlp_dim, dtype);
      TimeLinear(timer, rows, m.mlp_dim, m.model_dim, dtype);
      if (rows <= 64) TimeLinear(timer, rows, m.model_dim, kVocab, DType::kFloat32);
      TimeLinearBatch(timer, 5, rows, 32, m.model_dim);
      TimeLinearBatch(timer, 2, rows, m.model_dim, m.model_dim);
      TimeLinearBatch(timer, m.model_dim / 128, 2 * rows, 128, 64);
    }
    if (timer.Wants("norm")) {
      TimeNorm(timer, NormKind::kPlain, rows, 1, m.model_dim);
      TimeNorm(timer, NormKind::kGated, rows, m.heads, m.value_dim);
      TimeNorm(timer, NormKind::kLayer, rows, 1, m.model_dim);
      TimeNorm(timer, NormKind::kGateFirst, rows, 1, 2 * m.model_dim);
    }
    if (timer.Wants("gated_unit")) TimeGatedUnit(timer, rows, m.mlp_dim);
    if (timer.Wants("gather_rows")) TimeGatherRows(timer, rows, m.model_dim);
  }
}

// Float8 weights, beside bfloat16 ones where TimeLayers has none.
void TimeFloat8(KernelTimer& timer, const ModelShape& m) {
  if (!timer.Wants("linear")) return;
  const DType dtype = Activations(timer);
  const bool is_cpu = timer.device().kind() == DeviceKind::kCpu;
  for (const int32_t rows : {1, 8, 16, 32, 64, 128, 256, 2048}) {
    if (is_cpu && rows > 64) continue;
    const bool has_both = rows == 32 || rows == 128 || rows == 256;
    for (const DType weight : {DType::kBFloat16, DType::kFloat8}) {
      if (weight == DType::kBFloat16 && !has_both) continue;
      TimeLinear(timer, rows, m.model_dim, 2 * m.mlp_dim, dtype, weight);
      TimeLinear(timer, rows, m.mlp_dim, m.model_dim, dtype, weight);
      TimeLinear(timer, rows, m.model_dim, 3 * m.model_dim, dtype, weight);
      TimeLinear(timer, rows, m.model_dim, m.model_dim, dtype, weight);
    }
  }
}

void TimeSampler(KernelTimer& timer) {
  SampleParams greedy;
  greedy.temperature = 0;
  SampleParams truncated;
  truncated.temperature = 0.8F;
  truncated.top_k = 50;
  truncated.top_p = 0.9F;
  SampleParams nucleus;
  nucleus.top_p = 0.9F;
  if (timer.Wants("token_counts")) TimeMarkPrompt(timer, 2048);
  for (const int32_t rows : {1, 64, 256}) {
    if (timer.Wants("sample")) {
      TimeSample(timer, rows, "greedy", greedy);
      TimeSample(timer, rows, "plain", SampleParams());
      TimeSample(timer, rows, "top_k top_p", truncated);
      TimeSample(timer, rows, "top_p", nucleus);
    }
    if (timer.Wants("logprobs")) TimeLogprobs(timer, rows, 0);
    if (timer.Wants("logprobs")) TimeLogprobs(timer, rows, 20);
  }
}

struct Options {
  std::string device = "cpu";
  std::string shapes;
  std::string op;     // part of its name
  std::string shape;  // part of its text
  int32_t threads = static_cast<int32_t>(std::thread::hardware_concurrency());
};

bool Parse(const std::string& argument, Options* options) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = argument.substr(0, equals);
  const std::string value = argument.substr(equals + 1);
  if (name == "--device") options->device = value;
  if (name == "--shapes") options->shapes = value;
  if (name == "--op") options->op = value;
  if (name == "--shape") options->shape = value;
  if (name == "--threads") options->threads = std::atoi(value.c_str());
  const bool known = name == "--device" || name == "--shapes" || name == "--op" ||
                     name == "--shape" || name == "--threads";
  return known && options->threads > 0 && (options->device == "cpu" || options->device == "cuda");
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (Parse(argv[i], &options)) continue;
    std::fprintf(stderr,
                 "usage: kernels_bench --device=cpu|cuda [--threads=N] "
                 "[--shapes=demo|gla-1.3b|all] [--op=PART] [--shape=PART]\n");
    return 2;
  }
  if (options.shapes.empty()) options.shapes = options.device == "cpu" ? "demo" : "all";
  std::string error;
  const std::unique_ptr<Device> device = options.device == "cpu"
                                             ? CreateCpuDevice(options.threads)
                                             : CreateCudaDevice({.float8_weights = true}, &error);
  if (device == nullptr) {
    std::fprintf(stderr, "kernels_bench: %s\n", error.c_str());
    return 1;
  }
  KernelTimer timer(device.get(), options.op, options.shape);
  for (const ModelShape& m : {ModelShape{"demo", 3, 64, 128, 384, 1024},
                              ModelShape{"gla-1.3b", 4, 256, 512, 2048, 5632}}) {
    if (options.shapes != "all" && options.shapes != m.name) continue;
    TimeMixer(timer, m);
    TimeLayers(timer, m);
    TimeFloat8(timer, m);
  }
  TimeOtherMixers(timer);
  TimeScans(timer);
  TimeSampler(timer);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
