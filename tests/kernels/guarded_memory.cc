#include "tests/kernels/guarded_memory.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "gtest/gtest.h"
#include "kernels/check.h"

namespace sluice {
namespace {

// A multiple of what Allocate aligns to, so that what follows the guard is aligned alike.
constexpr int64_t kGuardBytes = 256;
constexpr std::byte kGuard{0xA5};
constexpr std::byte kPoison{0xFF};
constexpr std::align_val_t kCpuAlignment{64};

uint16_t ToBFloat16(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  if (std::isnan(value)) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

float FromBFloat16(uint16_t half) {
  const uint32_t bits = uint32_t{half} << 16;
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace

std::vector<std::byte> Pack(const std::vector<float>& values, DType dtype) {
  if (dtype == DType::kFloat32) return AsBytes(values);
  SLUICE_CHECK(dtype == DType::kBFloat16);
  std::vector<uint16_t> halves(values.size());
  std::transform(values.begin(), values.end(), halves.begin(), ToBFloat16);
  return AsBytes(halves);
}

std::vector<float> Unpack(const std::vector<std::byte>& bytes, DType dtype) {
  std::vector<float> values(bytes.size() / DTypeBytes(dtype));
  if (values.empty()) return values;
  if (dtype == DType::kFloat32) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
    return values;
  }
  std::vector<uint16_t> halves(values.size());
  std::memcpy(halves.data(), bytes.data(), bytes.size());
  std::transform(halves.begin(), halves.end(), values.begin(), FromBFloat16);
  return values;
}

std::vector<float> Rounded(const std::vector<float>& values, DType dtype) {
  return Unpack(Pack(values, dtype), dtype);
}

// On the CPU, Device::Allocate may round sizes up, and an overrun would end up in the rounding: the
// exact size is taken from the heap.
Input::Input(Device& device, const std::vector<std::byte>& content) : device_(device) {
  if (content.empty()) return;
  const auto bytes = static_cast<int64_t>(content.size());
  data_ = device.kind() == DeviceKind::kCpu ? ::operator new(content.size(), kCpuAlignment)
                                            : device.Allocate(bytes);
  SLUICE_CHECK(data_ != nullptr);
  device.Upload(data_, content.data(), bytes);
}

Input::~Input() {
  if (data_ == nullptr) return;
  if (device_.kind() == DeviceKind::kCpu) {
    ::operator delete(data_, kCpuAlignment);
  } else {
    device_.Free(data_);
  }
}

const void* Input::at(int64_t index, DType dtype) const {
  return as<std::byte>() + index * DTypeBytes(dtype);
}

Output::Output(Device& device, int64_t bytes)
    : Output(device, std::vector<std::byte>(bytes, kPoison)) {}

Output::Output(Device& device, const std::vector<std::byte>& content)
    : device_(device), bytes_(static_cast<int64_t>(content.size())) {
  std::vector<std::byte> image(bytes_ + 2 * kGuardBytes, kGuard);
  std::copy(content.begin(), content.end(), image.begin() + kGuardBytes);
  base_ = device.Allocate(static_cast<int64_t>(image.size()));
  SLUICE_CHECK(base_ != nullptr);
  device.Upload(base_, image.data(), static_cast<int64_t>(image.size()));
}

Output::~Output() { device_.Free(base_); }

void* Output::data() const { return static_cast<std::byte*>(base_) + kGuardBytes; }

void* Output::at(int64_t index, DType dtype) const {
  return as<std::byte>() + index * DTypeBytes(dtype);
}

std::vector<std::byte> Output::ReadBytes() const {
  std::vector<std::byte> image(bytes_ + 2 * kGuardBytes);
  device_.Download(image.data(), base_, static_cast<int64_t>(image.size()));
  const auto begin = image.begin() + kGuardBytes;
  const auto is_guard = [](std::byte byte) { return byte == kGuard; };
  EXPECT_TRUE(std::all_of(image.begin(), begin, is_guard)) << "the op wrote before its output";
  EXPECT_TRUE(std::all_of(begin + bytes_, image.end(), is_guard))
      << "the op wrote past the end of its output";
  return {begin, begin + bytes_};
}

}  // namespace sluice
