#include "engine/layers/batched_projection.h"

#include <algorithm>

#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {

absl::StatusOr<BatchedProjection> BatchedProjection::Load(WeightLoader* loader, int64_t in_dim,
                                                          int64_t out_dim,
                                                          const std::vector<std::string>& names) {
  SLUICE_CHECK(in_dim == Projection::Columns(in_dim) && out_dim == Projection::Columns(out_dim));
  BatchedProjection projection(in_dim, out_dim, static_cast<int64_t>(names.size()));
  std::vector<WeightPart> parts;
  parts.reserve(names.size());
  for (const std::string& name : names) parts.push_back({name + ".weight", {out_dim, in_dim}});
  SLUICE_ASSIGN_OR_RETURN(projection.weight_, loader->Matrix(parts));
  return projection;
}

absl::StatusOr<BatchedProjection> BatchedProjection::LoadStack(WeightLoader* loader, int64_t in_dim,
                                                               int64_t out_dim, int64_t count,
                                                               const std::string& name) {
  SLUICE_CHECK(in_dim == Projection::Columns(in_dim) && out_dim == Projection::Columns(out_dim));
  BatchedProjection projection(in_dim, out_dim, count);
  SLUICE_ASSIGN_OR_RETURN(projection.weight_, loader->Matrix({{name, {count, out_dim, in_dim}}}));
  return projection;
}

absl::StatusOr<BatchedProjection> BatchedProjection::LoadBlocks(WeightLoader* loader,
                                                                int64_t in_dim, int64_t out_dim,
                                                                int64_t count,
                                                                const std::string& name) {
  SLUICE_ASSIGN_OR_RETURN(const std::vector<float> tensor,
                          loader->HostFloats({name + ".weight", {out_dim, count * in_dim}}));
  BatchedProjection projection(Projection::Columns(in_dim), Projection::Columns(out_dim), count);
  std::vector<float> values(count * projection.out_dim_ * projection.in_dim_);
  for (int64_t block = 0; block < count; ++block) {
    for (int64_t row = 0; row < out_dim; ++row) {
      std::copy_n(tensor.begin() + (row * count + block) * in_dim, in_dim,
                  values.begin() + (block * projection.out_dim_ + row) * projection.in_dim_);
    }
  }
  SLUICE_ASSIGN_OR_RETURN(projection.weight_, loader->FromHost(values, loader->matrix_dtype()));
  return projection;
}

void BatchedProjection::Forward(const Compute& compute, int32_t rows,
                                const ProjectionRows<const void>& x,
                                const ProjectionRows<void>& y) const {
  compute.device->Linear({.rows = rows,
                          .in_dim = static_cast<int32_t>(in_dim_),
                          .out_dim = static_cast<int32_t>(out_dim_),
                          .weight_dtype = compute.matrix_dtype,
                          .x_dtype = compute.act,
                          .y_dtype = compute.act,
                          .x = x.data,
                          .x_stride = x.stride,
                          .weight = weight_.data(),
                          .y = y.data,
                          .y_stride = y.stride,
                          .batch = static_cast<int32_t>(count_),
                          .x_step = x.step,
                          .weight_step = out_dim_ * in_dim_,
                          .y_step = y.step});
}

}  // namespace sluice
