// Short causal convolutions over some columns of a projection, one weight a channel and tap.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/layers/compute.h"
#include "engine/layers/sublayer.h"
#include "engine/weight_loader.h"
#include "kernels/activation.h"
#include "kernels/device_buffer.h"

namespace sluice {

struct ConvPart {
  // Of the module: its tensors are <name>.weight of shape [channels, 1, width] and, if wanted,
  // <name>.bias of [channels].
  std::string name;
  int64_t channels;
  bool bias = false;
};

class ConvLayer {
 public:
  // Floats of a slot's window.
  static int64_t WindowFloats(int64_t channels, int32_t width) { return channels * (width - 1); }

  ConvLayer() = default;

  // Either all parts have a bias or none.
  static absl::StatusOr<ConvLayer> Load(WeightLoader* loader, int32_t width,
                                        const std::vector<ConvPart>& parts,
                                        Activation act = Activation::kSilu);

  // y [rows, channels], contiguous, from x [rows, channels], rows `x_stride` apart. The window lies
  // at `window_offset` of the layer's state.
  void Forward(const Compute& compute, const SublayerContext& context, int64_t window_offset,
               const void* x, int64_t x_stride, void* y) const;

 private:
  int32_t width_ = 0;
  int32_t channels_ = 0;
  Activation act_ = Activation::kSilu;
  DeviceBuffer weight_;  // float32 [channels, width]
  DeviceBuffer bias_;    // float32 [channels]; empty without one
};

}  // namespace sluice
