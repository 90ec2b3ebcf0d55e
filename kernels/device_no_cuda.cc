// What a build without CUDA has in place of the CUDA device.
#include "kernels/device.h"

namespace sluice {

std::unique_ptr<Device> CreateCudaDevice(const CudaOptions& /*options*/, std::string* error) {
  *error = "this build has no CUDA";
  return nullptr;
}

int32_t CudaDeviceCount() { return 0; }

}  // namespace sluice
