#include "engine/layers/swiglu_mlp.h"

#include <utility>

#include "engine/status_macros.h"

namespace sluice {

SwiGluMlp::SwiGluMlp(const Compute& compute, int32_t hidden_size, int32_t intermediate_size,
                     MlpNames names)
    : compute_(compute),
      hidden_size_(hidden_size),
      intermediate_size_(intermediate_size),
      names_(std::move(names)) {}

SwiGluMlp::Scratch SwiGluMlp::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t bytes = int64_t{size.rows} * intermediate_size_ * DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.gate_up = arena.Take(2 * bytes);
  scratch.activated = arena.Take(bytes);
  return scratch;
}

absl::Status SwiGluMlp::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string mlp = prefix + names_.module + ".";
  Layer layer;
  std::vector<ProjectionPart> parts = {{mlp + names_.gate, intermediate_size_, names_.bias},
                                       {mlp + names_.up, intermediate_size_, names_.bias}};
  if (!names_.gate_up.empty()) {
    parts = {{mlp + names_.gate_up, 2 * int64_t{intermediate_size_}, names_.bias}};
  }
  SLUICE_ASSIGN_OR_RETURN(layer.gate_up, Projection::Load(loader, hidden_size_, parts));
  SLUICE_ASSIGN_OR_RETURN(layer.down,
                          Projection::Load(loader, intermediate_size_,
                                           {{mlp + names_.down, hidden_size_, names_.bias}}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void SwiGluMlp::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const int32_t rows = context.batch.rows;
  const Layer& weights = layers_[layer];
  const int64_t stride = weights.gate_up.columns();
  weights.gate_up.Forward(compute_, rows, context.normed, hidden_size_, scratch.gate_up, stride);
  compute_.device->GatedUnit({.dtype = compute_.act,
                              .rows = rows,
                              .dim = intermediate_size_,
                              .gate = scratch.gate_up,
                              .gate_stride = stride,
                              .up = scratch.gate_up + intermediate_size_ * DTypeBytes(compute_.act),
                              .up_stride = stride,
                              .out = scratch.activated,
                              .out_stride = intermediate_size_});
  weights.down.Add(compute_, rows, scratch.activated, intermediate_size_, context.x, hidden_size_);
}

}  // namespace sluice
