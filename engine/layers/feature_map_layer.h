// A feature map of linear attention (feature_map_spec.h): its weights, and the ops over all heads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/layers/compute.h"
#include "engine/layers/feature_map_spec.h"
#include "engine/layers/projection.h"
#include "engine/layers/scratch_arena.h"
#include "engine/weight_loader.h"
#include "kernels/activation.h"
#include "kernels/device_buffer.h"

namespace sluice {

class FeatureMapLayer {
 public:
  struct Scratch {
    std::byte* products;  // [heads, columns] of a learned map
    std::byte* features;  // [heads, F]
  };

  FeatureMapLayer() = default;

  // Whether there is such a module of a learned map.
  static bool IsIn(const WeightLoader& loader, const FeatureMapSpec& spec, const std::string& name);
  // `name` is the module of a learned map.
  static absl::StatusOr<FeatureMapLayer> Load(WeightLoader* loader, const FeatureMapSpec& spec,
                                              const std::string& name);

  static Scratch LayOut(const Compute& compute, const FeatureMapSpec& spec, float sum_eps,
                        ScratchArena& arena, int64_t heads);

  // x [heads, K], contiguous, is overwritten: the heads of all rows, one after the other. Returns
  // [heads, F], contiguous, in `scratch` or x. With a sum_eps above 0 features are divided by their
  // sum and this.
  std::byte* Forward(const Compute& compute, int32_t heads, float sum_eps, std::byte* x,
                     const Scratch& scratch) const;

 private:
  void Activate(const Compute& compute, Activation act, int32_t heads, std::byte* x) const;
  void ForwardElementwise(const Compute& compute, int32_t heads, std::byte* x,
                          std::byte* products) const;

  FeatureMapSpec spec_{};
  Projection projection_;  // of a learned map
  DeviceBuffer bias_;      // float32, of its columns; empty without
};

}  // namespace sluice
