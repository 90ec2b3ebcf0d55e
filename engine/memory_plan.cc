#include "engine/memory_plan.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/state_pool.h"
#include "engine/step_runner.h"
#include "kernels/segment.h"

namespace sluice {
namespace {

constexpr int32_t kCpuSlots = 64;
constexpr int32_t kCudaSlots = 256;
constexpr int32_t kCpuStepTokens = 512;
constexpr int32_t kCudaStepTokens = 4096;

int32_t StepTokens(const EngineConfig& config, const Device& device, int32_t slots) {
  if (config.max_step_tokens != 0) return config.max_step_tokens;
  const bool cuda = device.kind() == DeviceKind::kCuda;
  return std::max(cuda ? kCudaStepTokens : kCpuStepTokens, slots + kChunk);
}

int64_t MemoryLimit(const EngineConfig& config, int64_t free_at_start) {
  return static_cast<int64_t>(static_cast<double>(free_at_start) * config.memory_fraction);
}

int64_t NeededBytes(const Model& model, int32_t step_tokens, int32_t slots) {
  return model.weight_bytes() + StepRunner::MemoryBytes(model, step_tokens, slots) +
         StatePool::MemoryBytes(model.SlotFloats(), slots);
}

}  // namespace

absl::StatusOr<MemoryPlan> PlanMemory(const EngineConfig& config, const Model& model,
                                      const Device& device, int64_t free_at_start) {
  const bool cuda = device.kind() == DeviceKind::kCuda;
  MemoryPlan plan;
  plan.step_tokens = StepTokens(config, device, config.state_slots);
  const int32_t most = plan.step_tokens - kChunk;
  const int32_t asked =
      config.state_slots > 0 ? config.state_slots : std::min(cuda ? kCudaSlots : kCpuSlots, most);
  if (asked > most) {
    return absl::InvalidArgumentError(absl::StrCat("max_step_tokens is ", plan.step_tokens, "; ",
                                                   asked, " state slots need at least ",
                                                   asked + kChunk));
  }
  const int64_t limit = MemoryLimit(config, free_at_start);
  const int32_t least = config.state_slots > 0 ? asked : 1;
  for (plan.slots = asked; plan.slots >= least; --plan.slots) {
    if (NeededBytes(model, plan.step_tokens, plan.slots) <= limit) return plan;
  }
  return absl::ResourceExhaustedError(absl::StrFormat(
      "not enough memory for %d state slot%s: %d bytes are needed (weights %d, buffers for "
      "steps of %d tokens %d, states %d); %s had %d bytes free, of which %g may be taken: %d",
      least, least == 1 ? "" : "s", NeededBytes(model, plan.step_tokens, least),
      model.weight_bytes(), plan.step_tokens,
      StepRunner::MemoryBytes(model, plan.step_tokens, least),
      StatePool::MemoryBytes(model.SlotFloats(), least), device.Description(), free_at_start,
      config.memory_fraction, limit));
}

int32_t SlotsThatFit(const EngineConfig& config, const Model& model, const Device& device,
                     int64_t free_at_start) {
  const int64_t limit = MemoryLimit(config, free_at_start);
  int32_t fits = 0;
  int32_t beyond = kMaxStateSlots + 1;
  while (fits + 1 < beyond) {
    const int32_t middle = fits + (beyond - fits) / 2;
    const int32_t step_tokens = StepTokens(config, device, middle);
    (NeededBytes(model, step_tokens, middle) <= limit ? fits : beyond) = middle;
  }
  return fits;
}

}  // namespace sluice
