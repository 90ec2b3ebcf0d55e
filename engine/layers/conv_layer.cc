#include "engine/layers/conv_layer.h"

#include "engine/status_macros.h"

namespace sluice {

absl::StatusOr<ConvLayer> ConvLayer::Load(WeightLoader* loader, int32_t width,
                                          const std::vector<ConvPart>& parts) {
  ConvLayer conv;
  std::vector<WeightPart> weights;
  int64_t channels = 0;
  for (const ConvPart& part : parts) {
    weights.push_back({part.name + ".weight", {part.channels, 1, width}});
    channels += part.channels;
  }
  conv.width_ = width;
  conv.channels_ = static_cast<int32_t>(channels);
  SLUICE_ASSIGN_OR_RETURN(conv.weight_, loader->Floats(weights));
  return conv;
}

void ConvLayer::Forward(const Compute& compute, const BatchView& batch, const void* x,
                        int64_t x_stride, float* windows, int64_t slot_stride, void* y) const {
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
                             .bias = nullptr,
                             .windows = windows,
                             .slot_stride = slot_stride,
                             .y = y});
}

}  // namespace sluice
