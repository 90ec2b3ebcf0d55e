#include "engine/runtime.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "engine/checkpoint.h"
#include "engine/model_config.h"
#include "engine/status_macros.h"
#include "kernels/segment.h"

namespace sluice {
namespace {

constexpr int32_t kCpuSlots = 64;
constexpr int32_t kCudaSlots = 256;
constexpr int32_t kCpuStepTokens = 512;
constexpr int32_t kCudaStepTokens = 4096;

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const EngineConfig& config) {
  absl::string_view name = config.device;
  if (name == "auto") name = CudaDeviceCount() > 0 ? "cuda" : "cpu";
  if (name == "cpu") {
    const auto available = static_cast<int32_t>(std::thread::hardware_concurrency());
    return CreateCpuDevice(config.threads > 0 ? config.threads : std::max(available, 1));
  }
  int32_t ordinal = 0;
  if (absl::ConsumePrefix(&name, "cuda:") && !absl::SimpleAtoi(name, &ordinal)) {
    return absl::InvalidArgumentError(absl::StrCat("device: no number after \"cuda:\""));
  }
  std::string error;
  std::unique_ptr<Device> device = CreateCudaDevice(ordinal, &error);
  if (device == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("device ", config.device, ": ", error));
  }
  return device;
}

// What is decided about memory.
struct MemoryPlan {
  int32_t step_tokens;
  int32_t slots;
};

absl::StatusOr<MemoryPlan> PlanMemory(const EngineConfig& config, const Model& model,
                                      const Device& device, int64_t free_at_start) {
  const bool cuda = device.kind() == DeviceKind::kCuda;
  MemoryPlan plan;
  plan.step_tokens = config.max_step_tokens;
  if (plan.step_tokens == 0) {
    plan.step_tokens =
        std::max(cuda ? kCudaStepTokens : kCpuStepTokens, config.state_slots + kChunk);
  }
  const int32_t most = plan.step_tokens - kChunk;
  const int32_t asked =
      config.state_slots > 0 ? config.state_slots : std::min(cuda ? kCudaSlots : kCpuSlots, most);
  if (asked > most) {
    return absl::InvalidArgumentError(absl::StrCat("max_step_tokens is ", plan.step_tokens, "; ",
                                                   asked, " state slots need at least ",
                                                   asked + kChunk));
  }
  const int64_t slot_bytes = model.SlotFloats() * 4;
  const auto limit =
      static_cast<int64_t>(static_cast<double>(free_at_start) * config.memory_fraction);
  const auto needed = [&](int32_t slots) {
    return model.weight_bytes() + StepRunner::MemoryBytes(model, plan.step_tokens, slots) +
           slots * slot_bytes;
  };
  const int32_t least = config.state_slots > 0 ? asked : 1;
  for (plan.slots = asked; plan.slots >= least; --plan.slots) {
    if (needed(plan.slots) <= limit) return plan;
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "not enough memory for %d state slot%s: %d bytes are needed (weights %d, buffers for "
      "steps of %d tokens %d, states %d); %s had %d bytes free, of which %g may be taken: %d",
      least, least == 1 ? "" : "s", needed(least), model.weight_bytes(), plan.step_tokens,
      StepRunner::MemoryBytes(model, plan.step_tokens, least), least * slot_bytes,
      device.Description(), free_at_start, config.memory_fraction, limit));
}

EngineInfo DescribeEngine(const EngineConfig& config, const Runtime& runtime,
                          int32_t max_step_tokens) {
  const Model& model = *runtime.model;
  const StateShape shape = model.state_shape();
  EngineInfo info;
  info.model_name = config.model_name;
  if (info.model_name.empty()) {
    info.model_name = std::filesystem::weakly_canonical(config.model_dir).filename().string();
  }
  info.model_type = model.config().model_type;
  info.device = runtime.device->Description();
  info.weight_dtype = DTypeName(model.matrix_dtype());
  info.parameters = model.parameters();
  info.weight_bytes = model.weight_bytes();
  info.state_bytes = runtime.pool->slot_bytes();
  info.hidden_size = model.config().hidden_size;
  info.num_layers = model.config().num_layers;
  info.vocab_size = model.config().vocab_size;
  info.num_heads = shape.heads;
  info.num_kv_heads = shape.kv_heads;
  info.head_key_dim = shape.key_dim;
  info.head_value_dim = shape.value_dim;
  info.eos_token_ids = model.config().generation.eos_token_ids;
  info.state_slots = runtime.pool->total();
  info.max_waiting = config.max_waiting;
  info.max_prompt_tokens = config.max_prompt_tokens;
  info.max_output_tokens = config.max_output_tokens;
  info.max_text_bytes = config.max_text_bytes;
  info.max_step_tokens = max_step_tokens;
  return info;
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> LoadTokenizer(const EngineConfig& config) {
  const std::filesystem::path file = config.model_dir / "tokenizer.json";
  std::error_code error;
  if (!config.needs_tokenizer && !std::filesystem::exists(file, error)) {
    return Tokenizer::Parse(R"({"model":{"type":"BPE","vocab":{},"merges":[]}})");
  }
  return Tokenizer::Load(file);
}

absl::Status CheckDirectory(const std::filesystem::path& directory) {
  std::error_code error;
  if (std::filesystem::is_directory(directory, error)) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("model directory ", directory.string(), " does not exist or is no directory"));
}

}  // namespace

absl::StatusOr<Runtime> LoadRuntime(const EngineConfig& config,
                                    const std::function<void(const std::string&)>& progress) {
  SLUICE_RETURN_IF_ERROR(ValidateEngineConfig(config));
  SLUICE_RETURN_IF_ERROR(CheckDirectory(config.model_dir));
  Runtime runtime;
  // What is small and most often wrong comes first.
  SLUICE_ASSIGN_OR_RETURN(const ModelConfig model_config, ReadModelConfig(config.model_dir));
  SLUICE_ASSIGN_OR_RETURN(runtime.tokenizer, LoadTokenizer(config));
  if (runtime.tokenizer->vocab_size() > model_config.vocab_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokenizer.json has ids up to ", runtime.tokenizer->vocab_size() - 1,
                     "; vocab_size in config.json is ", model_config.vocab_size));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(config.model_dir));
  SLUICE_ASSIGN_OR_RETURN(runtime.device, OpenDevice(config));
  if (progress) progress(absl::StrCat("device: ", runtime.device->Description()));

  const int64_t free_at_start = runtime.device->FreeBytes();
  const DType dtype = config.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16;
  runtime.model = std::make_unique<Model>(model_config, runtime.device.get(), dtype);
  SLUICE_RETURN_IF_ERROR(runtime.model->Load(*checkpoint, progress));
  SLUICE_ASSIGN_OR_RETURN(const MemoryPlan plan,
                          PlanMemory(config, *runtime.model, *runtime.device, free_at_start));
  SLUICE_ASSIGN_OR_RETURN(runtime.pool, StatePool::Create(runtime.device.get(),
                                                          runtime.model->SlotFloats(), plan.slots));
  SLUICE_ASSIGN_OR_RETURN(runtime.runner,
                          StepRunner::Create(runtime.device.get(), runtime.model.get(),
                                             runtime.pool.get(), plan.step_tokens));
  if (progress) {
    progress(absl::StrCat("state pool: ", plan.slots, " slots of ", runtime.pool->slot_bytes(),
                          " bytes"));
  }
  SLUICE_RETURN_IF_ERROR(runtime.runner->WarmUp());
  runtime.info = DescribeEngine(config, runtime, plan.step_tokens);
  return runtime;
}

}  // namespace sluice
