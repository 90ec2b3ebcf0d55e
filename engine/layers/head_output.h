// What follows the recurrence in most mixers: a norm of each head's output, a gate, a product.
//
//   x += (norm_per_head(o) * act(g)) Wo + b      or, with the gate first,
//   x += norm_per_head(o * act(g)) Wo + b
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "engine/layers/compute.h"
#include "engine/layers/projection.h"
#include "engine/weight_loader.h"
#include "kernels/activation.h"
#include "kernels/device_buffer.h"
#include "kernels/norm.h"

namespace sluice {

struct HeadOutputSpec {
  int32_t hidden_size;
  int32_t heads;
  int32_t head_dim;
  float eps;
  bool normed = true;       // whether there is a norm at all; without one there is no gate
  std::string norm = "";    // module whose weight, of shape [head_dim], scales the norm; or none
  std::string output = "";  // module of Wo
  Activation gate_act = Activation::kNone;
  bool wide_weight = false;  // the norm's weight is of shape [heads * head_dim]
  bool center = false;       // layer norm instead of root-mean-square norm
  bool norm_bias = false;    // of the norm, shaped as its weight, which is there as well
  bool gate_first = false;
  bool bias = false;  // of Wo
};

class HeadOutput {
 public:
  HeadOutput() = default;

  static absl::StatusOr<HeadOutput> Load(WeightLoader* loader, const HeadOutputSpec& spec);

  // o [rows, heads * head_dim], contiguous and overwritten; `gate` likewise, rows `gate_stride`
  // apart, or null; x [rows, hidden_size], added to.
  void Forward(const Compute& compute, int32_t rows, void* o, const void* gate, int64_t gate_stride,
               void* x) const;

  // The two halves of it, where the recurrence takes the norm.
  NormArgs Norm(const Compute& compute, int32_t rows, void* o, const void* gate,
                int64_t gate_stride) const;
  void Project(const Compute& compute, int32_t rows, const void* o, void* x) const;

 private:
  HeadOutputSpec spec_{};
  DeviceBuffer norm_;       // float32 [head_dim], or of every head; empty without a weight
  DeviceBuffer norm_bias_;  // the same
  Projection output_;
};

}  // namespace sluice
