#include "engine/layer_stack.h"

#include <variant>

#include "engine/models/gla.h"

namespace sluice {
namespace {

struct Maker {
  Device* device;
  DType matrix_dtype;
  std::unique_ptr<LayerStack> operator()(const GlaConfig& config) const {
    return MakeGlaLayers(config, device, matrix_dtype);
  }
};

}  // namespace

std::unique_ptr<LayerStack> MakeLayerStack(const ModelConfig& config, Device* device,
                                           DType matrix_dtype) {
  return std::visit(Maker{device, matrix_dtype}, config.family);
}

}  // namespace sluice
