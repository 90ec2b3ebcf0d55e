#include "engine/layers/projection.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<Projection> Projection::Load(WeightLoader* loader, int64_t in_dim,
                                            const std::vector<ProjectionPart>& parts) {
  Projection projection;
  std::vector<WeightPart> weights;
  int64_t out_dim = 0;
  for (const ProjectionPart& part : parts) {
    weights.push_back({part.name + ".weight", {part.out_dim, in_dim}});
    out_dim += part.out_dim;
  }
  projection.in_dim_ = in_dim;
  projection.columns_ = Columns(out_dim);
  SLUICE_ASSIGN_OR_RETURN(projection.weight_,
                          loader->Matrix(weights, projection.columns_ * in_dim));
  return projection;
}

void Projection::Forward(const Compute& compute, int32_t rows, const void* x, int64_t x_stride,
                         void* y, int64_t y_stride, bool accumulate) const {
  compute.device->Linear({.rows = rows,
                          .in_dim = static_cast<int32_t>(in_dim_),
                          .out_dim = static_cast<int32_t>(columns_),
                          .weight_dtype = compute.matrix_dtype,
                          .x_dtype = compute.act,
                          .y_dtype = compute.act,
                          .x = x,
                          .x_stride = x_stride,
                          .weight = weight_.data(),
                          .y = y,
                          .y_stride = y_stride,
                          .accumulate = accumulate});
}

}  // namespace sluice
