// The devices that every op is tested on, and the fixture that opens one.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device.h"

namespace sluice {

// The CPU always. CUDA if there is a GPU, and if SLUICE_REQUIRE_GPU=1 says that there must be one:
// opening it then fails where there is none, so that a run meant for a GPU cannot pass without.
std::vector<DeviceKind> DevicesUnderTest();

// "Cpu" or "Cuda": what gtest appends to a test's name, and what it prints of a parameter.
std::string DeviceName(const testing::TestParamInfo<DeviceKind>& info);
void PrintTo(DeviceKind kind, std::ostream* out);

// One for a test, the CPU with two threads. A failure if there is none.
std::unique_ptr<Device> OpenTestDevice(DeviceKind kind, bool batch_invariant = true);

// One device a test, batch invariant.
class DeviceTest : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override;

  Device& device() { return *device_; }
  bool is_cuda() const { return GetParam() == DeviceKind::kCuda; }
  // What activations may be stored in: float32, and bfloat16 on CUDA.
  std::vector<DType> ActivationTypes() const;

 private:
  std::unique_ptr<Device> device_;
};

// For EXPECT_DEATH: what a broken limit prints, whichever device found it.
inline constexpr char kCheckFailed[] = "check failed";

}  // namespace sluice
