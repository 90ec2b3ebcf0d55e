// The one owner of device memory.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/device.h"

namespace sluice {

// Move-only. `device` outlives the buffer.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  // data() is null if the device has not that much memory left. No bytes, no memory.
  DeviceBuffer(Device* device, int64_t bytes)
      : device_(device), data_(bytes > 0 ? device->Allocate(bytes) : nullptr), bytes_(bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : device_(other.device_),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  ~DeviceBuffer() {
    if (data_ != nullptr) device_->Free(data_);
  }

  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  int64_t bytes() const { return bytes_; }
  bool ok() const { return data_ != nullptr || bytes_ == 0; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace sluice
