// Memory that ops are tested on: what they read ends where its allocation ends, and what they write
// lies between guards and starts as NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/device.h"

namespace sluice {

// `values` as stored in `dtype`, rounded to nearest even; and back. Float32 or bfloat16.
std::vector<std::byte> Pack(const std::vector<float>& values, DType dtype);
std::vector<float> Unpack(const std::vector<std::byte>& bytes, DType dtype);

// What is left of `values` once stored in `dtype`: what an oracle has to be given.
std::vector<float> Rounded(const std::vector<float>& values, DType dtype);

template <typename T>
std::vector<std::byte> AsBytes(const std::vector<T>& values) {
  std::vector<std::byte> bytes(values.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// Memory that an op only reads: exactly as large as its content, so that ASan and compute-sanitizer
// see a read past the end.
class Input {
 public:
  Input(Device& device, const std::vector<std::byte>& content);
  Input(Device& device, const std::vector<float>& values, DType dtype)
      : Input(device, Pack(values, dtype)) {}
  template <typename T>
  Input(Device& device, const std::vector<T>& values) : Input(device, AsBytes(values)) {}
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input();

  const void* data() const { return data_; }
  template <typename T>
  const T* as() const {
    return static_cast<const T*>(data_);
  }
  // The address of element `index` of a tensor of `dtype`.
  const void* at(int64_t index, DType dtype) const;

 private:
  Device& device_;
  void* data_ = nullptr;
};

// Memory that an op writes, or reads and writes. Reading it back fails the test if the op wrote
// beside it.
class Output {
 public:
  // All NaN, in float32 and in bfloat16 alike; -1 as an integer.
  Output(Device& device, int64_t bytes);
  Output(Device& device, const std::vector<std::byte>& content);
  Output(Device& device, const std::vector<float>& values, DType dtype)
      : Output(device, Pack(values, dtype)) {}
  template <typename T>
  Output(Device& device, const std::vector<T>& values) : Output(device, AsBytes(values)) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  ~Output();

  void* data() const;
  template <typename T>
  T* as() const {
    return static_cast<T*>(data());
  }
  void* at(int64_t index, DType dtype) const;

  std::vector<std::byte> ReadBytes() const;
  std::vector<float> Read(DType dtype) const { return Unpack(ReadBytes(), dtype); }
  template <typename T>
  std::vector<T> Read() const {
    const std::vector<std::byte> bytes = ReadBytes();
    std::vector<T> values(bytes.size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
  }

 private:
  Device& device_;
  int64_t bytes_ = 0;
  void* base_ = nullptr;
};

}  // namespace sluice
