// Small arrays that a step reads, packed into one copy to the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/check.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

// Begin, Add each array, then Upload: the pointers that Add returned are device pointers, valid
// until the next Begin.
class UploadArena {
 public:
  UploadArena() = default;
  UploadArena(Device* device, int64_t capacity_bytes)
      : device_(device), buffer_(device, capacity_bytes), host_(capacity_bytes) {}

  bool ok() const { return buffer_.ok(); }
  int64_t capacity_bytes() const { return buffer_.bytes(); }

  void Begin() { used_ = 0; }

  template <typename T>
  T* Add(const std::vector<T>& values) {
    const int64_t bytes = static_cast<int64_t>(values.size() * sizeof(T));
    SLUICE_CHECK(used_ + bytes <= buffer_.bytes());
    if (bytes > 0) std::memcpy(host_.data() + used_, values.data(), bytes);
    T* at = reinterpret_cast<T*>(buffer_.as<std::byte>() + used_);
    used_ += Padded(bytes);
    return at;
  }

  void Upload() {
    SLUICE_CHECK(used_ <= buffer_.bytes() + kAlignment);
    const int64_t bytes = used_ < buffer_.bytes() ? used_ : buffer_.bytes();
    if (bytes > 0) device_->Upload(buffer_.data(), host_.data(), bytes);
  }

  // Bytes that an array of `bytes` takes up.
  static constexpr int64_t Padded(int64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
  }

 private:
  static constexpr int64_t kAlignment = 16;

  Device* device_ = nullptr;
  DeviceBuffer buffer_;
  std::vector<std::byte> host_;
  int64_t used_ = 0;
};

}  // namespace sluice
