#include "engine/layers/norm_layer.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<NormLayer> NormLayer::Load(WeightLoader* loader, const NormSpec& spec,
                                          const std::string& name, int32_t dim) {
  NormLayer norm;
  norm.spec_ = spec;
  norm.dim_ = dim;
  SLUICE_ASSIGN_OR_RETURN(norm.weight_, loader->Floats({{name + ".weight", {dim}}}));
  if (spec.bias) {
    SLUICE_ASSIGN_OR_RETURN(norm.bias_, loader->Floats({{name + ".bias", {dim}}}));
  }
  return norm;
}

void NormLayer::Forward(const Compute& compute, int32_t rows, const void* x, void* y) const {
  compute.device->Norm({.dtype = compute.act,
                        .rows = rows,
                        .dim = dim_,
                        .eps = spec_.eps,
                        .x = x,
                        .x_stride = dim_,
                        .weight = weight_.as<float>(),
                        .y = y,
                        .y_stride = dim_,
                        .center = spec_.center,
                        .bias = bias_.as<float>()});
}

}  // namespace sluice
