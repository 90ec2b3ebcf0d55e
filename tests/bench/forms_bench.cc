// Time of the three forms of gated linear attention, from 64 to 65,536 tokens of one sequence.
//
//   forms_bench --device=cpu|cuda [--threads=N] [--limit=SECONDS]
//
// Recurrent: gated_step, token by token. Chunkwise: gated_chunk on one segment. Parallel:
// parallel_form.h, which no model uses. On CUDA at the heads of GLA-1.3B in bfloat16, on the CPU at
// those of the demo model in float32. Prints CSV; a time is the median over calls. A form ends at
// the length whose call would take longer than the limit (default: 10 seconds). Before, the three
// are held against each other at 1,024 tokens, and the program fails if they are not one function.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "kernels/check.h"
#include "kernels/device.h"
#include "tests/bench/kernel_timer.h"
#include "tests/bench/parallel_form.h"
#include "tests/kernels/packed_rows.h"
#include "tests/kernels/relative_error.h"

namespace sluice {
namespace {

constexpr int32_t kShortest = 64;
constexpr int32_t kLongest = 65536;
constexpr int32_t kCompared = 1024;
constexpr double kSecondsAForm = 0.5;  // that the calls of one length may take together
constexpr int kMostCalls = 500;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

GatedShape ShapeOn(DeviceKind kind) {
  if (kind == DeviceKind::kCuda) return {DType::kBFloat16, 4, 4, 256, 512, 1.0F / 16};
  return {DType::kFloat32, 3, 3, 64, 128, 1.0F / 8};
}

DeviceBuffer Take(Device& device, int64_t bytes) {
  DeviceBuffer buffer(&device, bytes);
  SLUICE_CHECK(buffer.ok());
  return buffer;
}

// One sequence of the longest length, and the three ways over its first tokens.
class Sequence {
 public:
  Sequence(Device& device, int32_t threads)
      : device_(device),
        shape_(ShapeOn(device.kind())),
        pool_(threads),
        rotation_(device, int64_t{1} << 40),  // as few copies as there can be
        q_(rotation_.Numbers(kLongest * Keys(), shape_.dtype)),
        k_(rotation_.Numbers(kLongest * Keys(), shape_.dtype)),
        v_(rotation_.Numbers(kLongest * Values(), shape_.dtype)),
        log_decay_(rotation_.Numbers(kLongest * Keys(), DType::kFloat32, -0.1F, 0)),
        state_(Take(device, shape_.StateSize() * 4)),
        out_(Take(device, kLongest * Values() * DTypeBytes(shape_.dtype))),
        slot_(rotation_.Same(std::vector<int32_t>{0})),
        parallel_workspace_(Take(device, ParallelFormWorkspaceBytes(ParallelArgs(kLongest)))) {}

  void Recurrent(int32_t tokens) {
    device_.Zero(state_.data(), state_.bytes());
    GatedStepArgs args = {.shape = shape_, .rows = 1, .slots = slot_.at<int32_t>(0)};
    for (int32_t t = 0; t < tokens; ++t) {
      args.operands = Operands(t);
      device_.GatedStep(args);
    }
    device_.Synchronize();
  }

  // What a step of the engine has uploaded before it runs its layers.
  void PlanChunks(int32_t tokens) {
    const PackedRows packed = PackRuns({{tokens, 0, 0}}, 0);
    chunk_count_ = static_cast<int32_t>(packed.chunks.size());
    segments_ = Uploaded(packed.segments);
    chunks_ = Uploaded(packed.chunks);
    workspace_ = Take(
        device_, std::max<int64_t>(1, device_.GatedChunkWorkspaceBytes(shape_, 1, chunk_count_)));
  }
  void Chunkwise() {
    device_.Zero(state_.data(), state_.bytes());
    device_.GatedChunk({.shape = shape_,
                        .segment_count = 1,
                        .segments = segments_.as<Segment>(),
                        .chunk_count = chunk_count_,
                        .chunks = chunks_.as<ChunkSpan>(),
                        .operands = Operands(0),
                        .workspace = workspace_.data()});
    device_.Synchronize();
  }

  void Parallel(int32_t tokens) {
#if SLUICE_HAS_CUDA
    if (device_.kind() == DeviceKind::kCuda) {
      ParallelFormCuda(ParallelArgs(tokens));
      WaitForParallelForm();
      return;
    }
#endif
    ParallelFormCpu(ParallelArgs(tokens), pool_);
  }

  // Of the first `tokens` tokens, as they were left by the last call.
  std::vector<float> Output(int32_t tokens) {
    const int64_t element = DTypeBytes(shape_.dtype);
    std::vector<uint8_t> bytes(tokens * Values() * element);
    device_.Download(bytes.data(), out_.data(), static_cast<int64_t>(bytes.size()));
    device_.Zero(out_.data(), static_cast<int64_t>(bytes.size()));
    std::vector<float> values(tokens * Values());
    for (size_t i = 0; i < values.size(); ++i) {
      // A bfloat16 is the upper half of a float32.
      std::memcpy(reinterpret_cast<uint8_t*>(&values[i]) + 4 - element, &bytes[i * element],
                  element);
    }
    return values;
  }

  const GatedShape& shape() const { return shape_; }

 private:
  int64_t Keys() const { return int64_t{shape_.heads} * shape_.key_dim; }
  int64_t Values() const { return int64_t{shape_.heads} * shape_.value_dim; }

  template <typename T>
  DeviceBuffer Uploaded(const std::vector<T>& values) {
    const auto bytes = static_cast<int64_t>(values.size() * sizeof(T));
    DeviceBuffer buffer = Take(device_, bytes);
    device_.Upload(buffer.data(), values.data(), bytes);
    return buffer;
  }

  // From token `token` on.
  GatedOperands Operands(int64_t token) const {
    const int64_t element = DTypeBytes(shape_.dtype);
    return {.q = q_.at<uint8_t>(0) + token * Keys() * element,
            .k = k_.at<uint8_t>(0) + token * Keys() * element,
            .v = v_.at<uint8_t>(0) + token * Values() * element,
            .q_stride = Keys(),
            .k_stride = Keys(),
            .v_stride = Values(),
            .log_decay = log_decay_.at<float>(0) + token * Keys(),
            .states = state_.as<float>(),
            .slot_stride = shape_.StateSize(),
            .out = out_.as<uint8_t>() + token * Values() * element};
  }

  ParallelFormArgs ParallelArgs(int32_t tokens) const {
    return {.tokens = tokens,
            .heads = shape_.heads,
            .key_dim = shape_.key_dim,
            .value_dim = shape_.value_dim,
            .scale = shape_.scale,
            .q = q_[0],
            .k = k_[0],
            .v = v_[0],
            .log_decay = log_decay_.at<float>(0),
            .out = out_.data(),
            .workspace = parallel_workspace_.data()};
  }

  Device& device_;
  const GatedShape shape_;
  ThreadPool pool_;
  Rotation rotation_;
  Ring q_;
  Ring k_;
  Ring v_;
  Ring log_decay_;
  DeviceBuffer state_;
  DeviceBuffer out_;
  Ring slot_;
  DeviceBuffer parallel_workspace_;
  DeviceBuffer segments_;
  DeviceBuffer chunks_;
  DeviceBuffer workspace_;
  int32_t chunk_count_ = 0;
};

struct Form {
  const char* name;
  double growth;  // of the time where the length doubles
  std::function<void(int32_t)> run;
};

// Whether the forms are one function.
bool Agree(Sequence& sequence, const std::vector<Form>& forms) {
  const double bound = sequence.shape().dtype == DType::kFloat32 ? 1e-5 : 1e-2;
  std::vector<float> want;
  bool good = true;
  for (const Form& form : forms) {
    form.run(kCompared);
    const std::vector<float> got = sequence.Output(kCompared);
    if (want.empty()) {
      want = got;
      continue;
    }
    const double error = RelativeError(got, want);
    std::printf("# %s differs from %s by %.1e of its size at %d tokens\n", form.name, forms[0].name,
                error, kCompared);
    good = good && error <= bound;
  }
  return good;
}

double MedianSeconds(const Form& form, int32_t tokens) {
  double begin = Now();
  form.run(tokens);
  const double first = Now() - begin;
  const int calls = std::clamp(static_cast<int>(kSecondsAForm / first), 1, kMostCalls);
  std::vector<double> seconds;
  for (int call = 0; call < calls; ++call) {
    begin = Now();
    form.run(tokens);
    seconds.push_back(Now() - begin);
  }
  std::nth_element(seconds.begin(), seconds.begin() + calls / 2, seconds.end());
  return seconds[calls / 2];
}

void TimeForms(Sequence& sequence, const std::vector<Form>& forms, const std::string& device,
               double limit) {
  std::vector<double> last(forms.size(), 0);
  std::printf("device,form,tokens,seconds\n");
  for (int32_t tokens = kShortest; tokens <= kLongest; tokens *= 2) {
    sequence.PlanChunks(tokens);
    for (size_t i = 0; i < forms.size(); ++i) {
      if (last[i] * forms[i].growth > limit) continue;
      last[i] = MedianSeconds(forms[i], tokens);
      std::printf("%s,%s,%d,%.9f\n", device.c_str(), forms[i].name, tokens, last[i]);
      std::fflush(stdout);
    }
  }
}

struct Options {
  std::string device = "cpu";
  int32_t threads = static_cast<int32_t>(std::thread::hardware_concurrency());
  double limit = 10;
};

bool Parse(const std::string& argument, Options* options) {
  const size_t equals = argument.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = argument.substr(0, equals);
  const std::string value = argument.substr(equals + 1);
  if (name == "--device") options->device = value;
  if (name == "--threads") options->threads = std::atoi(value.c_str());
  if (name == "--limit") options->limit = std::atof(value.c_str());
  const bool known = name == "--device" || name == "--threads" || name == "--limit";
  return known && options->threads > 0 && (options->device == "cpu" || options->device == "cuda");
}

int Main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    if (Parse(argv[i], &options)) continue;
    std::fprintf(stderr, "usage: forms_bench --device=cpu|cuda [--threads=N] [--limit=SECONDS]\n");
    return 2;
  }
  std::string error;
  const std::unique_ptr<Device> device =
      options.device == "cpu" ? CreateCpuDevice(options.threads) : CreateCudaDevice({}, &error);
  if (device == nullptr) {
    std::fprintf(stderr, "forms_bench: %s\n", error.c_str());
    return 1;
  }
  Sequence sequence(*device, options.threads);
  const GatedShape& shape = sequence.shape();
  std::printf("# %s; H=%d, K=%d, V=%d, %s\n", device->Description().c_str(), shape.heads,
              shape.key_dim, shape.value_dim, DTypeName(shape.dtype));
  const std::vector<Form> forms = {
      {"chunkwise", 2, [&](int32_t) { sequence.Chunkwise(); }},
      {"recurrent", 2, [&](int32_t tokens) { sequence.Recurrent(tokens); }},
      {"parallel", 4, [&](int32_t tokens) { sequence.Parallel(tokens); }}};
  sequence.PlanChunks(kCompared);
  if (!Agree(sequence, forms)) {
    std::fprintf(stderr, "forms_bench: the forms disagree\n");
    return 1;
  }
  TimeForms(sequence, forms, options.device, options.limit);
  return 0;
}

}  // namespace
}  // namespace sluice

int main(int argc, char** argv) { return sluice::Main(argc, argv); }
