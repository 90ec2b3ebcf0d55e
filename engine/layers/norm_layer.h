// A norm of the residual stream: its weights, and the op over all of a row.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/layers/compute.h"
#include "engine/weight_loader.h"
#include "kernels/device_buffer.h"

namespace sluice {

// Which norm a model has between its layers.
struct NormSpec {
  float eps;
  bool center = false;  // layer norm instead of root-mean-square norm
  bool bias = false;    // whether there is a <name>.bias beside the weight
};

class NormLayer {
 public:
  NormLayer() = default;

  // Tensors <name>.weight and, if wanted, <name>.bias of shape [dim].
  static absl::StatusOr<NormLayer> Load(WeightLoader* loader, const NormSpec& spec,
                                        const std::string& name, int32_t dim);

  // y = norm(x), both [rows, dim] and contiguous; y may be x.
  void Forward(const Compute& compute, int32_t rows, const void* x, void* y) const;

 private:
  NormSpec spec_{};
  int32_t dim_ = 0;
  DeviceBuffer weight_;  // float32 [dim]
  DeviceBuffer bias_;    // the same; empty without one
};

}  // namespace sluice
