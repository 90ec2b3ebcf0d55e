#include "engine/layers/conv_layer.h"

#include "engine/status_macros.h"
#include "kernels/check.h"

namespace sluice {

absl::StatusOr<ConvLayer> ConvLayer::Load(WeightLoader* loader, int32_t width,
                                          const std::vector<ConvPart>& parts, Activation act) {
  ConvLayer conv;
  std::vector<WeightPart> weights;
  std::vector<WeightPart> biases;
  int64_t channels = 0;
  for (const ConvPart& part : parts) {
    weights.push_back({part.name + ".weight", {part.channels, 1, width}});
    if (part.bias) biases.push_back({part.name + ".bias", {part.channels}});
    channels += part.channels;
  }
  conv.width_ = width;
  conv.act_ = act;
  conv.channels_ = static_cast<int32_t>(channels);
  SLUICE_ASSIGN_OR_RETURN(conv.weight_, loader->Floats(weights));
  if (biases.empty()) return conv;
  SLUICE_CHECK(biases.size() == parts.size());
  SLUICE_ASSIGN_OR_RETURN(conv.bias_, loader->Floats(biases));
  return conv;
}

void ConvLayer::Forward(const Compute& compute, const SublayerContext& context,
                        int64_t window_offset, const void* x, int64_t x_stride, void* y) const {
  const BatchView& batch = context.batch;
  compute.device->ShortConv({.dtype = compute.act,
                             .channels = channels_,
                             .width = width_,
                             .decode_rows = batch.decode_rows,
                             .slots = batch.decode_slots,
                             .segment_count = batch.segment_count,
                             .segments = batch.segments,
                             .rows = batch.rows,
                             .x = x,
                             .x_stride = x_stride,
                             .weight = weight_.as<float>(),
                             .bias = bias_.as<float>(),
                             .windows = context.states + window_offset,
                             .slot_stride = context.slot_stride,
                             .y = y,
                             .act = act_});
}

}  // namespace sluice
