// The gated MLP that most families share: x += (silu(h Wg) * (h Wu)) Wd, with h = rmsnorm(x).
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/weight_loader.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

struct MlpShape {
  int32_t hidden_size;
  int32_t intermediate_size;
  float norm_eps;
};

// Scratch that the layers of a model share, [rows] of each.
struct MlpScratch {
  void* normed;     // [rows, hidden_size], activations
  void* gate_up;    // [rows, 2 * intermediate_size]
  void* activated;  // [rows, intermediate_size]
};

class SwiGluMlp {
 public:
  // Tensors <norm>.weight, <mlp>.gate_proj.weight, <mlp>.up_proj.weight, <mlp>.down_proj.weight.
  static absl::StatusOr<SwiGluMlp> Load(WeightLoader* loader, const MlpShape& shape,
                                        const std::string& norm, const std::string& mlp);

  // x [rows, hidden_size] is read and added to.
  void Forward(Device* device, int32_t rows, const MlpScratch& scratch, void* x) const;

 private:
  MlpShape shape_;
  DType matrix_dtype_;
  DeviceBuffer norm_;
  DeviceBuffer gate_up_;
  DeviceBuffer down_;
};

}  // namespace sluice
