// A linear map of a layer: one product for all the tensors that read the same input.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/layers/compute.h"
#include "engine/weight_loader.h"
#include "kernels/device_buffer.h"

namespace sluice {

struct ProjectionPart {
  std::string name;  // of the module: its tensors are <name>.weight and, if wanted, <name>.bias
  int64_t out_dim;
};

class Projection {
 public:
  // Columns of the result come in multiples of this; those past the parts' sum are zero.
  static constexpr int64_t kColumnMultiple = 8;
  // Columns of the result of parts of so many in all.
  static int64_t Columns(int64_t out_dim) {
    return (out_dim + kColumnMultiple - 1) / kColumnMultiple * kColumnMultiple;
  }

  Projection() = default;

  // Tensors <name>.weight of shape [out_dim, in_dim], side by side in the result.
  static absl::StatusOr<Projection> Load(WeightLoader* loader, int64_t in_dim,
                                         const std::vector<ProjectionPart>& parts);

  // y = x W, or y += x W. x [rows, in_dim], rows `x_stride` apart; y [rows, columns()] of
  // activations, rows `y_stride` apart.
  void Forward(const Compute& compute, int32_t rows, const void* x, int64_t x_stride, void* y,
               int64_t y_stride, bool accumulate = false) const;

  int64_t columns() const { return columns_; }

 private:
  int64_t in_dim_ = 0;
  int64_t columns_ = 0;
  DeviceBuffer weight_;  // matrix [columns, in_dim]
};

}  // namespace sluice
