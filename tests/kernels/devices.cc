#include "tests/kernels/devices.h"

#include <cstdlib>

namespace sluice {
namespace {

constexpr int32_t kThreads = 2;

bool GpuIsRequired() {
  const char* required = std::getenv("SLUICE_REQUIRE_GPU");
  return required != nullptr && std::string(required) == "1";
}

}  // namespace

std::vector<DeviceKind> DevicesUnderTest() {
  std::vector<DeviceKind> kinds = {DeviceKind::kCpu};
  if (CudaDeviceCount() > 0 || GpuIsRequired()) kinds.push_back(DeviceKind::kCuda);
  return kinds;
}

std::string DeviceName(const testing::TestParamInfo<DeviceKind>& info) {
  return info.param == DeviceKind::kCpu ? "Cpu" : "Cuda";
}

void PrintTo(DeviceKind kind, std::ostream* out) { *out << DeviceName({kind, 0}); }

std::unique_ptr<Device> OpenTestDevice(DeviceKind kind, bool batch_invariant) {
  if (kind == DeviceKind::kCpu) return CreateCpuDevice(kThreads, batch_invariant);
  std::string error;
  std::unique_ptr<Device> device =
      CreateCudaDevice({.batch_invariant = batch_invariant, .float8_weights = true}, &error);
  EXPECT_NE(device, nullptr) << error;
  return device;
}

void DeviceTest::SetUp() {
  // A death test starts the program anew: a fork would share the threads and the GPU's context.
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  device_ = OpenTestDevice(GetParam());
  ASSERT_NE(device_, nullptr);
}

std::vector<DType> DeviceTest::ActivationTypes() const {
  if (is_cuda()) return {DType::kFloat32, DType::kBFloat16};
  return {DType::kFloat32};
}

}  // namespace sluice
