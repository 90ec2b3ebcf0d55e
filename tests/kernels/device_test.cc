#include "kernels/device.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/device_buffer.h"
#include "tests/kernels/devices.h"

namespace sluice {
namespace {

class DeviceMemoryTest : public DeviceTest {
 protected:
  std::vector<uint8_t> Download(const void* from, int64_t bytes) {
    std::vector<uint8_t> host(bytes);
    device().Download(host.data(), from, bytes);
    return host;
  }
};
INSTANTIATE_TEST_SUITE_P(Devices, DeviceMemoryTest, testing::ValuesIn(DevicesUnderTest()),
                         DeviceName);

std::vector<uint8_t> Counting(size_t count) {
  std::vector<uint8_t> bytes(count);
  std::iota(bytes.begin(), bytes.end(), uint8_t{1});
  return bytes;
}

TEST_P(DeviceMemoryTest, SaysWhatItIs) {
  EXPECT_EQ(device().kind(), GetParam());
  EXPECT_EQ(device().Description().find(is_cuda() ? "cuda:0" : "cpu"), 0U);
  EXPECT_GT(device().FreeBytes(), int64_t{1} << 20);
}

TEST_P(DeviceMemoryTest, StoresActivationsAsItsKindDoes) {
  EXPECT_EQ(device().ActivationType(DType::kFloat32), DType::kFloat32);
  EXPECT_EQ(device().ActivationType(DType::kBFloat16),
            is_cuda() ? DType::kBFloat16 : DType::kFloat32);
}

TEST_P(DeviceMemoryTest, AlignsAllocations) {
  for (const int64_t bytes : {1, 2, 255, 256, 257, 100000}) {
    DeviceBuffer buffer(&device(), bytes);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 256, 0U) << bytes;
  }
}

TEST_P(DeviceMemoryTest, MovesBytesToAndFro) {
  for (const size_t bytes : {1, 7, 4096, 1000003}) {
    const std::vector<uint8_t> content = Counting(bytes);
    const auto size = static_cast<int64_t>(bytes);
    const DeviceBuffer from(&device(), size);
    const DeviceBuffer to(&device(), size);
    // The source may be reused as soon as Upload is back.
    std::vector<uint8_t> source = content;
    device().Upload(from.data(), source.data(), size);
    source.assign(bytes, 0);
    device().Copy(to.data(), from.data(), size);
    EXPECT_EQ(Download(to.data(), size), content);
  }
}

TEST_P(DeviceMemoryTest, ZeroesTheBytesAskedForAlone) {
  std::vector<uint8_t> content = Counting(1000);
  const DeviceBuffer buffer(&device(), 1000);
  device().Upload(buffer.data(), content.data(), 1000);
  device().Zero(buffer.as<uint8_t>() + 3, 501);
  std::fill(content.begin() + 3, content.begin() + 504, uint8_t{0});
  EXPECT_EQ(Download(buffer.data(), 1000), content);
}

TEST_P(DeviceMemoryTest, RunsInTheOrderOfTheCalls) {
  constexpr int64_t kBytes = int64_t{8} << 20;
  const DeviceBuffer a(&device(), kBytes);
  const DeviceBuffer b(&device(), kBytes);
  std::vector<uint8_t> host(kBytes, 1);
  for (uint8_t round = 1; round < 20; ++round) {
    host.assign(kBytes, round);
    device().Upload(a.data(), host.data(), kBytes);
    device().Copy(b.data(), a.data(), kBytes);
    device().Zero(a.data(), kBytes);
  }
  device().Synchronize();
  EXPECT_EQ(Download(b.data(), kBytes), std::vector<uint8_t>(kBytes, 19));
  EXPECT_EQ(Download(a.data(), kBytes), std::vector<uint8_t>(kBytes, 0));
}

TEST_P(DeviceMemoryTest, GivesNoMoreThanThereIs) {
  EXPECT_EQ(device().Allocate(int64_t{1} << 50), nullptr);
  EXPECT_EQ(device().Allocate(2 * device().FreeBytes()), nullptr);
  // And goes on working.
  EXPECT_TRUE(DeviceBuffer(&device(), 1000).ok());
  EXPECT_FALSE(DeviceBuffer(&device(), int64_t{1} << 50).ok());
}

TEST_P(DeviceMemoryTest, TakesBackWhatItGave) {
  // On a GPU, far more in all than there is at once; on the CPU, ASan looks for what is not freed.
  const int64_t bytes = is_cuda() ? device().FreeBytes() / 4 : int64_t{1} << 24;
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(DeviceBuffer(&device(), bytes).ok()) << i;
}

TEST_P(DeviceMemoryTest, ABufferFreesWhatItOwnsOnce) {
  DeviceBuffer a(&device(), 100);
  void* const data = a.data();
  DeviceBuffer b = std::move(a);
  EXPECT_EQ(b.data(), data);
  a = DeviceBuffer(&device(), 50);
  EXPECT_NE(a.data(), nullptr);
  EXPECT_EQ(a.bytes(), 50);
  const DeviceBuffer none(&device(), 0);
  EXPECT_TRUE(none.ok());
  EXPECT_EQ(none.data(), nullptr);
}

TEST(CudaDevice, SaysWhyThereIsNone) {
  std::string error;
  EXPECT_EQ(CreateCudaDevice({.ordinal = CudaDeviceCount()}, &error), nullptr);
  EXPECT_FALSE(error.empty());
  EXPECT_EQ(CreateCudaDevice({.ordinal = -1}, &error), nullptr);
}

TEST(CpuDeviceDeathTest, NeedsAThread) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(CreateCpuDevice(0), kCheckFailed);
}

}  // namespace
}  // namespace sluice
