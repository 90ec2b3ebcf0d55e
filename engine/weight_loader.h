// Brings a checkpoint's tensors to the device, in the format that the device computes with.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

// One tensor of the checkpoint, by name, with the shape that it must have.
struct WeightPart {
  std::string name;
  std::vector<int64_t> shape;
};

// The host holds a few MiB of the file at a time.
class WeightLoader {
 public:
  // All outlive the loader. Matrices become `matrix_dtype`: float32 or bfloat16.
  WeightLoader(const Checkpoint* checkpoint, Device* device, DType matrix_dtype)
      : checkpoint_(checkpoint), device_(device), matrix_dtype_(matrix_dtype) {}
  // Loads nothing: keeps what it is asked for, counts as if it were there, and gives empty buffers
  // and zeros. Tells what a model consists of without its checkpoint.
  WeightLoader(Device* device, DType matrix_dtype) : WeightLoader(nullptr, device, matrix_dtype) {}

  // The parts one after the other, as weights of matrix products, then zeros up to
  // `padded_elements`. The errors of Checkpoint::Find and Read; ResourceExhausted if the device's
  // memory is used up.
  absl::StatusOr<DeviceBuffer> Matrix(const std::vector<WeightPart>& parts,
                                      int64_t padded_elements = 0) {
    return Load(parts, matrix_dtype_, padded_elements);
  }
  // The same, as float32: norms, biases, gates.
  absl::StatusOr<DeviceBuffer> Floats(const std::vector<WeightPart>& parts,
                                      int64_t padded_elements = 0) {
    return Load(parts, DType::kFloat32, padded_elements);
  }
  // A tensor as float32 on the host, for what is computed from it once: small ones only.
  absl::StatusOr<std::vector<float>> HostFloats(const WeightPart& part);
  // What was computed on the host, on the device, as `dtype`: float32 or bfloat16.
  // ResourceExhausted.
  absl::StatusOr<DeviceBuffer> FromHost(const std::vector<float>& values,
                                        DType dtype = DType::kFloat32);

  // Whether the checkpoint has such a tensor: for models that it may have by one of two names.
  bool Has(const std::string& name) const {
    return checkpoint_ != nullptr && checkpoint_->Has(name);
  }

  // What was asked for, in order.
  const std::vector<WeightPart>& asked() const { return asked_; }
  DType matrix_dtype() const { return matrix_dtype_; }
  int64_t loaded_elements() const { return loaded_elements_; }
  int64_t loaded_bytes() const { return loaded_bytes_; }

 private:
  absl::StatusOr<DeviceBuffer> Load(const std::vector<WeightPart>& parts, DType dtype,
                                    int64_t padded_elements);
  absl::StatusOr<TensorView> Find(const WeightPart& part);
  absl::Status Upload(const WeightPart& part, const TensorView& tensor, DType dtype, std::byte* to);

  const Checkpoint* checkpoint_;  // null: loads nothing
  Device* device_;
  DType matrix_dtype_;
  std::vector<WeightPart> asked_;
  int64_t loaded_elements_ = 0;
  int64_t loaded_bytes_ = 0;
  std::vector<std::byte> read_;   // a block as the file has it
  std::vector<std::byte> block_;  // and as the device wants it
};

}  // namespace sluice
