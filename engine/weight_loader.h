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

// Rows of a matrix, and where they go in another.
struct RowRange {
  int64_t row = 0;
  int64_t to = 0;
  int64_t count = 0;
};

// A matrix of the checkpoint, and which of its rows go where.
struct PlacedPart {
  WeightPart part;
  std::vector<RowRange> ranges;
};

// The weight of a matrix product.
struct WeightMatrix {
  DeviceBuffer numbers;  // [rows, columns]; of float8 their codes (kernels/float8.h)
  DeviceBuffer scales;   // float32 [rows] of float8, else empty
};

// The host holds a few MiB of the file at a time, or a row if that is more, and what HostFloats
// gives.
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

  // The parts one after the other, as weights of matrix products. The errors of Checkpoint::Find
  // and Read; ResourceExhausted if the device's memory is used up.
  absl::StatusOr<DeviceBuffer> Matrix(const std::vector<WeightPart>& parts) {
    return Load(parts, matrix_dtype_);
  }
  // The same, as float32: norms, biases, gates.
  absl::StatusOr<DeviceBuffer> Floats(const std::vector<WeightPart>& parts) {
    return Load(parts, DType::kFloat32);
  }
  // One matrix of `rows` rows from parts of as many columns, whose ranges go one behind the other;
  // rows between and behind them are zeros. The errors of Matrix. `float8`: of columns that are a
  // multiple of 16, rounded row by row from what the file has; InvalidArgument, with the part's
  // name, if a number is not finite.
  absl::StatusOr<WeightMatrix> Rows(const std::vector<PlacedPart>& parts, int64_t rows,
                                    bool float8);
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
  bool float8() const { return float8_; }
  int64_t loaded_elements() const { return loaded_elements_; }
  int64_t loaded_bytes() const { return loaded_bytes_; }
  int64_t float8_elements() const { return float8_elements_; }  // of them, with what pads them

 private:
  absl::StatusOr<DeviceBuffer> Load(const std::vector<WeightPart>& parts, DType dtype);
  // Counts it as loaded.
  absl::StatusOr<TensorView> Find(const WeightPart& part);
  // Elements of the file, as `dtype`, until the next call.
  absl::StatusOr<const std::byte*> ReadAs(const WeightPart& part, const TensorView& tensor,
                                          int64_t begin, int64_t count, DType dtype);
  absl::Status Upload(const WeightPart& part, const TensorView& tensor, int64_t begin,
                      int64_t count, DType dtype, std::byte* to);
  // Memory of the device; ResourceExhausted. Empty buffers if nothing is loaded.
  absl::StatusOr<DeviceBuffer> Take(const std::string& name, int64_t bytes);
  absl::StatusOr<WeightMatrix> TakeMatrix(const std::string& name, int64_t rows, int64_t columns,
                                          bool float8);
  // Rounds rows, whose codes go to `to` and whose scales to `scales`.
  absl::Status UploadRounded(const WeightPart& part, const TensorView& tensor, int64_t row,
                             int64_t count, std::byte* to, float* scales);
  // The codes of rows of `columns` numbers, in codes_.
  absl::Status Round(const std::string& name, const float* values, int64_t rows, int64_t columns,
                     float* scales);

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
