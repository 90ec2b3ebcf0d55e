#include "engine/model_summary.h"

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint.h"
#include "engine/memory_plan.h"
#include "engine/model.h"
#include "engine/open_device.h"
#include "engine/status_macros.h"

namespace sluice {
namespace {

absl::Status CheckCheckpoint(const std::filesystem::path& directory, const Architecture& names,
                             const std::vector<WeightPart>& tensors) {
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Checkpoint> checkpoint,
                          Checkpoint::Open(directory));
  for (const WeightPart& tensor : tensors) {
    SLUICE_RETURN_IF_ERROR(checkpoint->Find(tensor.name, tensor.shape).status());
  }
  for (const std::string& name : checkpoint->Unread()) {
    if (name == names.head) continue;  // repeats a tied embedding
    return absl::InvalidArgumentError(
        absl::StrCat("checkpoint: ", name, " has no place in a model of this config.json"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelSummary> SummarizeModel(const EngineConfig& config) {
  SLUICE_RETURN_IF_ERROR(ValidateEngineConfig(config));
  ModelSummary summary;
  SLUICE_ASSIGN_OR_RETURN(summary.config, ReadModelConfig(config.model_dir));
  SLUICE_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, OpenDevice(config));
  const DType dtype = config.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16;
  Model model(summary.config, device.get(), dtype, StateFormatOf(config), HasFloat8Weights(config));
  SLUICE_RETURN_IF_ERROR(model.CheckStateType());
  summary.tensors = model.Measure();
  summary.gate = model.architecture().gate;
  summary.state_shape = model.architecture().state_shape;
  summary.layer_state = model.architecture().layer_state.parts();
  summary.parameters = model.parameters();
  summary.weight_dtype = DTypeName(model.weight_dtype());
  summary.weight_bytes = model.weight_bytes();
  summary.slot_bytes = model.SlotFloats() * 4;
  summary.device = device->Description();
  summary.free_bytes = device->FreeBytes();
  summary.slots = SlotsThatFit(config, model, *device, summary.free_bytes);
  summary.checkpoint = CheckCheckpoint(config.model_dir, model.architecture(), summary.tensors);
  return summary;
}

}  // namespace sluice
