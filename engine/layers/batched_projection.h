// Several linear maps of one shape, each of an input of its own, in one product.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/layers/compute.h"
#include "engine/layers/projection.h"
#include "engine/weight_loader.h"
#include "kernels/device_buffer.h"

namespace sluice {

// Where the inputs or results of the maps lie: rows `stride` apart, those of one map `step` after
// those of the one before, in activations.
template <typename T>
struct ProjectionRows {
  T* data;
  int64_t stride;
  int64_t step;
};

class BatchedProjection {
 public:
  BatchedProjection() = default;

  // One map for each tensor <name>.weight of shape [out_dim, in_dim], multiples of kColumnMultiple.
  static absl::StatusOr<BatchedProjection> Load(WeightLoader* loader, int64_t in_dim,
                                                int64_t out_dim,
                                                const std::vector<std::string>& names);
  // One map for each of `count` parts of the one tensor `name`, of shape [count, out_dim, in_dim],
  // multiples of kColumnMultiple.
  static absl::StatusOr<BatchedProjection> LoadStack(WeightLoader* loader, int64_t in_dim,
                                                     int64_t out_dim, int64_t count,
                                                     const std::string& name);
  // One map for each of `count` blocks of columns of the one tensor <name>.weight, of shape
  // [out_dim, count * in_dim]. Of any dimensions: those of the maps are rounded up to Columns.
  static absl::StatusOr<BatchedProjection> LoadBlocks(WeightLoader* loader, int64_t in_dim,
                                                      int64_t out_dim, int64_t count,
                                                      const std::string& name);

  // y_i = x_i W_i. Each x_i [rows, Columns(in_dim)], of finite numbers past in_dim; each y_i
  // [rows, Columns(out_dim)].
  void Forward(const Compute& compute, int32_t rows, const ProjectionRows<const void>& x,
               const ProjectionRows<void>& y) const;

 private:
  BatchedProjection(int64_t in_dim, int64_t out_dim, int64_t count)
      : in_dim_(in_dim), out_dim_(out_dim), count_(count) {}

  int64_t in_dim_ = 0;
  int64_t out_dim_ = 0;
  int64_t count_ = 0;
  DeviceBuffer weight_;  // matrices [count, out_dim, in_dim]
};

}  // namespace sluice
