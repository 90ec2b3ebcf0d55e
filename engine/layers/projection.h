// A linear map of a layer: one product for all the tensors that read the same input.
//
// If weights are to be float8 (WeightLoader), tensors of at least kLeastFloat8Dim rows and columns
// are. The others keep their precision, and are then a product of their own.
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
  bool bias = false;
  // Where the results are to be read apart: how many rows of the tensor make each of them, in order
  // and out_dim in all. Each then begins at a multiple of kColumnMultiple.
  std::vector<int64_t> pieces = {};
  int32_t copies = 1;  // of each piece, one after the other: what several heads share
};

class Projection {
 public:
  // Columns of x and of the result come in multiples of this; those of the result that belong to no
  // part are zero.
  static constexpr int64_t kColumnMultiple = 8;
  // Smaller tensors have few bytes to save, and are mostly of gates and steps, whose exponentials
  // enlarge an error.
  static constexpr int64_t kLeastFloat8Dim = 256;
  // So many columns, rounded up to that.
  static int64_t Columns(int64_t dim) {
    return (dim + kColumnMultiple - 1) / kColumnMultiple * kColumnMultiple;
  }

  Projection() = default;

  // Tensors <name>.weight of shape [out_dim, in_dim] and <name>.bias of [out_dim], side by side in
  // the result.
  static absl::StatusOr<Projection> Load(WeightLoader* loader, int64_t in_dim,
                                         const std::vector<ProjectionPart>& parts);

  // y = x W + b. x [rows, Columns(in_dim)], rows `x_stride` apart, of finite numbers past in_dim;
  // y [rows, columns()] of activations, rows `y_stride` apart.
  void Forward(const Compute& compute, int32_t rows, const void* x, int64_t x_stride, void* y,
               int64_t y_stride) const {
    Run(compute, {.rows = rows, .x = x, .x_stride = x_stride, .y = y, .y_stride = y_stride});
  }
  // y += x W + b.
  void Add(const Compute& compute, int32_t rows, const void* x, int64_t x_stride, void* y,
           int64_t y_stride) const {
    Run(compute, {.rows = rows,
                  .x = x,
                  .x_stride = x_stride,
                  .y = y,
                  .y_stride = y_stride,
                  .accumulate = true});
  }

  int64_t columns() const { return columns_; }

 private:
  // Neighbouring columns of the result whose weights are of one type: a product.
  struct Block {
    DType dtype = DType::kFloat32;
    int64_t column = 0;
    int64_t columns = 0;
    WeightMatrix weight;  // [columns, in_dim]
  };

  // Fills in what the weights decide.
  void Run(const Compute& compute, LinearArgs args) const;

  int64_t in_dim_ = 0;  // of the products: Columns of the tensors'
  int64_t columns_ = 0;
  std::vector<Block> blocks_;  // in the order in which they are queued
  DeviceBuffer bias_;          // float32 [columns]; empty without one
};

}  // namespace sluice
