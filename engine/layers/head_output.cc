#include "engine/layers/head_output.h"

#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {

absl::StatusOr<HeadOutput> HeadOutput::Load(WeightLoader* loader, const HeadOutputSpec& spec) {
  HeadOutput result;
  result.spec_ = spec;
  const int64_t width = int64_t{spec.heads} * spec.head_dim;
  if (!spec.norm.empty()) {
    const int64_t weights = spec.wide_weight ? width : spec.head_dim;
    SLUICE_ASSIGN_OR_RETURN(result.norm_, loader->Floats({{spec.norm + ".weight", {weights}}}));
    if (spec.norm_bias) {
      SLUICE_ASSIGN_OR_RETURN(result.norm_bias_,
                              loader->Floats({{spec.norm + ".bias", {weights}}}));
    }
  }
  SLUICE_ASSIGN_OR_RETURN(
      result.output_,
      Projection::Load(loader, width, {{spec.output, spec.hidden_size, spec.bias}}));
  return result;
}

void HeadOutput::Forward(const Compute& compute, int32_t rows, void* o, const void* gate,
                         int64_t gate_stride, void* x) const {
  if (spec_.normed) compute.device->Norm(Norm(compute, rows, o, gate, gate_stride));
  Project(compute, rows, o, x);
}

NormArgs HeadOutput::Norm(const Compute& compute, int32_t rows, void* o, const void* gate,
                          int64_t gate_stride) const {
  SLUICE_CHECK(spec_.normed);
  const int64_t width = int64_t{spec_.heads} * spec_.head_dim;
  return {.dtype = compute.act,
          .rows = rows,
          .groups = spec_.heads,
          .dim = spec_.head_dim,
          .eps = spec_.eps,
          .x = o,
          .x_stride = width,
          .weight = norm_.as<float>(),
          .gate_act = gate == nullptr ? Activation::kNone : spec_.gate_act,
          .gate = gate,
          .gate_stride = gate_stride,
          .y = o,
          .y_stride = width,
          .center = spec_.center,
          .bias = norm_bias_.as<float>(),
          .wide_weight = spec_.wide_weight,
          .gate_first = spec_.gate_first};
}

void HeadOutput::Project(const Compute& compute, int32_t rows, const void* o, void* x) const {
  const int64_t width = int64_t{spec_.heads} * spec_.head_dim;
  output_.Add(compute, rows, o, width, x, spec_.hidden_size);
}

}  // namespace sluice
