// Times ops of a device, and sets what they move and compute beside what the same device reaches on
// a large copy and a large matrix product in the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

// An operand in as many copies as a rotation has, side by side, taken in turn.
class Ring {
 public:
  Ring(DeviceBuffer buffer, int64_t stride, int64_t copies)
      : buffer_(std::move(buffer)), stride_(stride), copies_(copies) {}
  void* operator[](int64_t call) const { return at<uint8_t>(call); }
  template <typename T>
  T* at(int64_t call) const {
    return reinterpret_cast<T*>(buffer_.as<uint8_t>() + call % copies_ * stride_);
  }
  const DeviceBuffer& buffer() const { return buffer_; }
  int64_t stride() const { return stride_; }
  int64_t copies() const { return copies_; }

 private:
  DeviceBuffer buffer_;
  int64_t stride_;  // in bytes
  int64_t copies_;
};

// Memory of one case. `bytes` is what one call touches: calls take turns over as many copies as it
// needs for none to be found in a cache.
class Rotation {
 public:
  Rotation(Device& device, int64_t bytes);

  // Numbers spread evenly over [low, high].
  Ring Numbers(int64_t count, DType dtype, float low = -1, float high = 1) const;
  // The same integers in every copy.
  template <typename T>
  Ring Same(const std::vector<T>& values) const {
    return Bytes(values.data(), static_cast<int64_t>(values.size() * sizeof(T)));
  }
  Ring Empty(int64_t bytes) const;  // zero

 private:
  Ring Bytes(const void* content, int64_t bytes) const;

  Device& device_;
  int64_t copies_;
};

// What a device reaches at best.
struct Ceilings {
  double copy_bytes_per_second;
  double product_flops_per_second;  // of bfloat16 matrices
};
Ceilings MeasureCeilings(Device& device);

struct TimedCase {
  std::string op;
  std::string shape;
  int64_t bytes;
  int64_t flops = 0;  // 0: not told
};

class KernelTimer {
 public:
  // Measures the two ceilings and prints the head of the table. Cases whose op does not contain
  // `op`, or whose shape does not contain `shape`, are left out.
  KernelTimer(Device* device, std::string op, std::string shape);

  Device& device() { return *device_; }
  bool Wants(const std::string& op) const { return op.find(op_) != std::string::npos; }

  // Prints a row: the median over batches of calls of the time a call, on CUDA of a graph of them.
  // `call` gets a running number to rotate by.
  void Time(const TimedCase& timed, const std::function<void(int64_t)>& call);

 private:
  Device* const device_;
  const std::string op_;
  const std::string shape_;
  const Ceilings ceilings_;
};

}  // namespace sluice
