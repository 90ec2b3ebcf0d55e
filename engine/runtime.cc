#include "engine/runtime.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/memory_plan.h"
#include "engine/model_config.h"
#include "engine/open_device.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

EngineInfo DescribeEngine(const EngineConfig& config, const Runtime& runtime,
                          int32_t max_step_tokens) {
  const Model& model = *runtime.model;
  const StateShape shape = model.architecture().state_shape;
  EngineInfo info;
  info.model_name = config.model_name;
  if (info.model_name.empty()) {
    info.model_name = std::filesystem::weakly_canonical(config.model_dir).filename().string();
  }
  info.model_type = model.config().model_type;
  info.device = runtime.device->Description();
  info.weight_dtype = DTypeName(model.weight_dtype());
  info.parameters = model.parameters();
  info.weight_bytes = model.weight_bytes();
  info.state_bytes = runtime.pool->slot_bytes();
  info.pool_bytes = StatePool::MemoryBytes(model.SlotFloats(), runtime.pool->total());
  info.buffer_bytes = StepRunner::MemoryBytes(model, max_step_tokens, runtime.pool->total());
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
  auto tokenizer = Tokenizer::LoadDirectory(config.model_dir);
  if (!config.needs_tokenizer && absl::IsNotFound(tokenizer.status())) {
    return Tokenizer::Parse(R"({"model":{"type":"BPE","vocab":{},"merges":[]}})");
  }
  return tokenizer;
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
        absl::StrCat("the tokenizer has ids up to ", runtime.tokenizer->vocab_size() - 1,
                     "; vocab_size in config.json is ", model_config.vocab_size));
  }
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(config.model_dir));
  SLUICE_ASSIGN_OR_RETURN(runtime.device, OpenDevice(config));
  if (progress) progress(absl::StrCat("device: ", runtime.device->Description()));

  const int64_t free_at_start = runtime.device->FreeBytes();
  const DType dtype = config.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16;
  const StateFormat state = StateFormatOf(config);
  const bool float8 = HasFloat8Weights(config);
  {
    // Before gigabytes are read in vain, and into memory that is not there.
    Model measured(model_config, runtime.device.get(), dtype, state, float8);
    SLUICE_RETURN_IF_ERROR(measured.CheckStateType());
    measured.Measure();
    SLUICE_RETURN_IF_ERROR(PlanMemory(config, measured, *runtime.device, free_at_start).status());
  }
  runtime.model = std::make_unique<Model>(model_config, runtime.device.get(), dtype, state, float8);
  SLUICE_RETURN_IF_ERROR(runtime.model->Load(*checkpoint, progress));
  SLUICE_RETURN_IF_ERROR(checkpoint->CheckUnchanged());
  SLUICE_ASSIGN_OR_RETURN(const MemoryPlan plan,
                          PlanMemory(config, *runtime.model, *runtime.device, free_at_start));
  SLUICE_ASSIGN_OR_RETURN(runtime.pool, StatePool::Create(runtime.device.get(),
                                                          runtime.model->SlotFloats(), plan.slots));
  SLUICE_ASSIGN_OR_RETURN(runtime.runner,
                          StepRunner::Create(runtime.device.get(), runtime.model.get(),
                                             runtime.pool.get(), plan.step_tokens));
  SLUICE_RETURN_IF_ERROR(runtime.runner->WarmUp());
  runtime.info = DescribeEngine(config, runtime, plan.step_tokens);
  if (progress) {
    progress(absl::StrCat("memory: weights ", runtime.info.weight_bytes, " bytes, ", plan.slots,
                          " state slots ", runtime.info.pool_bytes, ", buffers of steps of ",
                          plan.step_tokens, " tokens ", runtime.info.buffer_bytes));
  }
  return runtime;
}

}  // namespace sluice
