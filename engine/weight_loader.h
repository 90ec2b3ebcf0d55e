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

// The weight of a matrix product.
struct WeightMatrix {
  DeviceBuffer numbers;  // [rows, columns]; of float8 their codes (kernels/float8.h)
  DeviceBuffer scales;   // float32 [rows] of float8, else empty
};

// The host holds a few MiB of the file at a time, or a row if that is more.
class WeightLoader {
 public:
  // All outlive the loader. Matrices become `matrix_dtype`: float32 or bfloat16. `float8`: whether
  // those of projections are to be float8, which asks for bfloat16.
  WeightLoader(const Checkpoint* checkpoint, Device* device, DType matrix_dtype,
               bool float8 = false)
      : checkpoint_(checkpoint), device_(device), matrix_dtype_(matrix_dtype), float8_(float8) {}
  // Loads nothing: keeps what it is asked for, counts as if it were there, and gives empty buffers
  // and zeros. Tells what a model consists of without its checkpoint.
  WeightLoader(Device* device, DType matrix_dtype, bool float8 = false)
      : WeightLoader(nullptr, device, matrix_dtype, float8) {}

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
  // The same of matrices [rows, columns] of as many columns, a multiple of 16, rounded row by row
  // from what the file has, then rows of zeros up to `padded_rows`. InvalidArgument if a number is
  // not finite.
  absl::StatusOr<WeightMatrix> Float8(const std::vector<WeightPart>& parts, int64_t padded_rows);
  // A tensor as float32 on the host, for what is computed from it once: small ones only.
  absl::StatusOr<std::vector<float>> HostFloats(const WeightPart& part);
  // What was computed on the host, on the device, as `dtype`: float32 or bfloat16.
  // ResourceExhausted.
  absl::StatusOr<DeviceBuffer> FromHost(const std::vector<float>& values,
                                        DType dtype = DType::kFloat32);
  // The same, rounded: rows of `columns` numbers, of the tensors `name` and what goes with it.
  absl::StatusOr<WeightMatrix> Float8FromHost(const std::string& name,
                                              const std::vector<float>& values, int64_t columns);

  // Whether the checkpoint has such a tensor: for models that it may have by one of two names.
  bool Has(const std::string& name) const {
    return checkpoint_ != nullptr && checkpoint_->Has(name);
  }

  // What was asked for, in order.
  const std::vector<WeightPart>& asked() const { return asked_; }
  DType matrix_dtype() const { return matrix_dtype_; }
  bool float8() const { return float8_; }
  int64_t loaded_elements() const { return loaded_elements_; }
  int64_t loaded_bytes() const { return loaded_bytes_; }
  int64_t float8_elements() const { return float8_elements_; }  // of them, with what pads them

 private:
  absl::StatusOr<DeviceBuffer> Load(const std::vector<WeightPart>& parts, DType dtype,
                                    int64_t padded_elements);
  absl::StatusOr<TensorView> Find(const WeightPart& part);
  absl::StatusOr<std::vector<TensorView>> FindAll(const std::vector<WeightPart>& parts,
                                                  int64_t* elements);
  // Elements of the file, as `dtype`, until the next call.
  absl::StatusOr<const std::byte*> ReadAs(const WeightPart& part, const TensorView& tensor,
                                          int64_t begin, int64_t count, DType dtype);
  absl::Status Upload(const WeightPart& part, const TensorView& tensor, DType dtype, std::byte* to);
  // Memory of the device; ResourceExhausted. Empty buffers if nothing is loaded.
  absl::StatusOr<DeviceBuffer> Take(const std::string& name, int64_t bytes);
  absl::StatusOr<WeightMatrix> TakeFloat8(const std::string& name, int64_t rows, int64_t columns);
  // Rounds rows of `columns` numbers, whose codes go to `to` and whose scales to `scales`.
  absl::Status UploadRounded(const std::string& name, const float* values, int64_t rows,
                             int64_t columns, std::byte* to, float* scales);

  const Checkpoint* checkpoint_;  // null: loads nothing
  Device* device_;
  DType matrix_dtype_;
  bool float8_;
  std::vector<WeightPart> asked_;
  int64_t loaded_elements_ = 0;
  int64_t loaded_bytes_ = 0;
  int64_t float8_elements_ = 0;
  std::vector<std::byte> read_;   // a block as the file has it
  std::vector<std::byte> block_;  // and as the device wants it
  std::vector<uint8_t> codes_;    // or rounded
};

}  // namespace sluice
