#include "engine/open_device.h"

#include <algorithm>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const EngineConfig& config) {
  absl::string_view name = config.device;
  if (name == "auto") name = CudaDeviceCount() > 0 ? "cuda" : "cpu";
  if (name == "cpu") {
    const auto available = static_cast<int32_t>(std::thread::hardware_concurrency());
    return CreateCpuDevice(config.threads > 0 ? config.threads : std::max(available, 1),
                           config.deterministic != "false");
  }
  CudaOptions options = {.batch_invariant = config.deterministic == "true",
                         .float8_weights = HasFloat8Weights(config)};
  if (absl::ConsumePrefix(&name, "cuda:") && !absl::SimpleAtoi(name, &options.ordinal)) {
    return absl::InvalidArgumentError(absl::StrCat("device: no number after \"cuda:\""));
  }
  std::string error;
  std::unique_ptr<Device> device = CreateCudaDevice(options, &error);
  if (device == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat("device ", config.device, ": ", error));
  }
  return device;
}

}  // namespace sluice
