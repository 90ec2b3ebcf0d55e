// The one owner of host memory that a device copies to.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/device.h"

namespace sluice {

// Move-only. `device` outlives the buffer.
class HostBuffer {
 public:
  HostBuffer() = default;
  // data() is null if there is not that much memory. `bytes` > 0.
  HostBuffer(Device* device, int64_t bytes) : device_(device), data_(device->AllocateHost(bytes)) {}
  HostBuffer(HostBuffer&& other) noexcept
      : device_(other.device_), data_(std::exchange(other.data_, nullptr)) {}
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    return *this;
  }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  ~HostBuffer() {
    if (data_ != nullptr) device_->FreeHost(data_);
  }

  void* data() const { return data_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
};

}  // namespace sluice
