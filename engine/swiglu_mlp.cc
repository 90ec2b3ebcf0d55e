#include "engine/swiglu_mlp.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<SwiGluMlp> SwiGluMlp::Load(WeightLoader* loader, const MlpShape& shape,
                                          const std::string& norm, const std::string& mlp) {
  const int64_t hidden = shape.hidden_size;
  const int64_t inner = shape.intermediate_size;
  SwiGluMlp result;
  result.shape_ = shape;
  result.matrix_dtype_ = loader->matrix_dtype();
  SLUICE_ASSIGN_OR_RETURN(result.norm_, loader->Floats({{norm + ".weight", {hidden}}}));
  SLUICE_ASSIGN_OR_RETURN(result.gate_up_,
                          loader->Matrix({{mlp + ".gate_proj.weight", {inner, hidden}},
                                          {mlp + ".up_proj.weight", {inner, hidden}}}));
  SLUICE_ASSIGN_OR_RETURN(result.down_,
                          loader->Matrix({{mlp + ".down_proj.weight", {hidden, inner}}}));
  return result;
}

void SwiGluMlp::Forward(Device* device, int32_t rows, const MlpScratch& scratch, void* x) const {
  const DType act = device->ActivationType(matrix_dtype_);
  const int32_t hidden = shape_.hidden_size;
  const int32_t inner = shape_.intermediate_size;
  device->Norm({.dtype = act,
                .rows = rows,
                .dim = hidden,
                .eps = shape_.norm_eps,
                .x = x,
                .x_stride = hidden,
                .weight = norm_.as<float>(),
                .y = scratch.normed,
                .y_stride = hidden});
  device->Linear({.rows = rows,
                  .in_dim = hidden,
                  .out_dim = 2 * inner,
                  .weight_dtype = matrix_dtype_,
                  .x_dtype = act,
                  .y_dtype = act,
                  .x = scratch.normed,
                  .x_stride = hidden,
                  .weight = gate_up_.data(),
                  .y = scratch.gate_up,
                  .y_stride = 2 * int64_t{inner}});
  device->GatedUnit(
      {.dtype = act, .rows = rows, .dim = inner, .x = scratch.gate_up, .out = scratch.activated});
  device->Linear({.rows = rows,
                  .in_dim = inner,
                  .out_dim = hidden,
                  .weight_dtype = matrix_dtype_,
                  .x_dtype = act,
                  .y_dtype = act,
                  .x = scratch.activated,
                  .x_stride = inner,
                  .weight = down_.data(),
                  .y = x,
                  .y_stride = hidden,
                  .accumulate = true});
}

}  // namespace sluice
