#include "engine/models/rwkv_channel_mix.h"

#include <utility>

#include "engine/status_macros.h"

namespace sluice {

RwkvChannelMix::RwkvChannelMix(const Compute& compute, int32_t hidden_size,
                               int32_t intermediate_size, Activation act, StateLayout* state)
    : compute_(compute),
      hidden_size_(hidden_size),
      intermediate_size_(intermediate_size),
      act_(act),
      token_mix_(hidden_size, "channel shift", state) {}

RwkvChannelMix::Scratch RwkvChannelMix::LayOut(ScratchArena& arena, const StepSize& size) const {
  const int64_t column = size.rows * DTypeBytes(compute_.act);
  Scratch scratch;
  scratch.mixed = arena.Take(2 * column * hidden_size_);
  scratch.key = arena.Take(column * intermediate_size_);
  scratch.value = arena.Take(column * hidden_size_);
  scratch.receptance = arena.Take(column * hidden_size_);
  return scratch;
}

absl::Status RwkvChannelMix::Load(WeightLoader* loader, const std::string& prefix) {
  const std::string ffn = prefix + "ffn.";
  const int64_t hidden = hidden_size_;
  Layer layer;
  SLUICE_ASSIGN_OR_RETURN(
      layer.mu, loader->Floats({{ffn + "key.mu", {hidden}}, {ffn + "receptance.mu", {hidden}}}));
  SLUICE_ASSIGN_OR_RETURN(
      layer.key, Projection::Load(loader, hidden, {{ffn + "key.linear", intermediate_size_}}));
  SLUICE_ASSIGN_OR_RETURN(layer.value,
                          Projection::Load(loader, intermediate_size_, {{ffn + "value", hidden}}));
  SLUICE_ASSIGN_OR_RETURN(layer.receptance,
                          Projection::Load(loader, hidden, {{ffn + "receptance.linear", hidden}}));
  layers_.push_back(std::move(layer));
  return absl::OkStatus();
}

void RwkvChannelMix::Run(int32_t layer, const SublayerContext& context, const Scratch& scratch) {
  const BatchView& batch = context.batch;
  const Layer& weights = layers_[layer];
  token_mix_.Shift(compute_, context, weights.mu.as<float>(), 2, scratch.mixed,
                   /*delta=*/nullptr);
  weights.key.Forward(compute_, batch.rows, scratch.mixed, hidden_size_, scratch.key,
                      intermediate_size_);
  compute_.device->Activate({.dtype = compute_.act,
                             .act = act_,
                             .rows = batch.rows,
                             .cols = intermediate_size_,
                             .x = scratch.key,
                             .stride = intermediate_size_});
  weights.value.Forward(compute_, batch.rows, scratch.key, intermediate_size_, scratch.value,
                        hidden_size_);
  const std::byte* const mixed = compute_.Column(scratch.mixed, int64_t{batch.rows} * hidden_size_);
  weights.receptance.Forward(compute_, batch.rows, mixed, hidden_size_, scratch.receptance,
                             hidden_size_);
  compute_.device->GatedUnit({.dtype = compute_.act,
                              .rows = batch.rows,
                              .dim = hidden_size_,
                              .act = Activation::kSigmoid,
                              .gate = scratch.receptance,
                              .gate_stride = hidden_size_,
                              .up = scratch.value,
                              .up_stride = hidden_size_,
                              .out = context.x,
                              .out_stride = hidden_size_,
                              .accumulate = true});
}

}  // namespace sluice
