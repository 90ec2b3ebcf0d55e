#include "engine/layers/feature_map_layer.h"

#include <vector>

#include "engine/status_macros.h"
#include "kernels/feature_map.h"

namespace sluice {
namespace {

FeatureMapKind KindOf(FeatureMapName map) {
  if (map == FeatureMapName::kDpfp) return FeatureMapKind::kDpfp;
  return map == FeatureMapName::kHedgehog ? FeatureMapKind::kHedgehog : FeatureMapKind::kIdentity;
}

// Whether the map is more than what an elementwise op does in place.
bool NeedsMapping(const FeatureMapSpec& spec, float sum_eps) {
  return KindOf(spec.map) != FeatureMapKind::kIdentity || sum_eps > 0;
}

// The layers of a learned map, side by side in one product.
std::vector<std::string> LayerNames(FeatureMapName map, const std::string& name) {
  if (map == FeatureMapName::kElementwise) return {name + ".layer1", name + ".layer2"};
  return {name + ".layer"};
}

}  // namespace

bool FeatureMapLayer::IsIn(const WeightLoader& loader, const FeatureMapSpec& spec,
                           const std::string& name) {
  return loader.Has(LayerNames(spec.map, name).front() + ".weight");
}

absl::StatusOr<FeatureMapLayer> FeatureMapLayer::Load(WeightLoader* loader,
                                                      const FeatureMapSpec& spec,
                                                      const std::string& name) {
  FeatureMapLayer layer;
  layer.spec_ = spec;
  if (!spec.Learned()) return layer;
  std::vector<ProjectionPart> parts;
  std::vector<WeightPart> biases;
  for (const std::string& part : LayerNames(spec.map, name)) {
    parts.push_back({part, spec.dim});
    if (spec.map != FeatureMapName::kT2r) biases.push_back({part + ".bias", {spec.dim}});
  }
  SLUICE_ASSIGN_OR_RETURN(layer.projection_, Projection::Load(loader, spec.dim, parts));
  if (!biases.empty()) {
    SLUICE_ASSIGN_OR_RETURN(layer.bias_, loader->Floats(biases));
  }
  return layer;
}

FeatureMapLayer::Scratch FeatureMapLayer::LayOut(const Compute& compute, const FeatureMapSpec& spec,
                                                 float sum_eps, ScratchArena& arena,
                                                 int64_t heads) {
  const int64_t dim = heads * spec.dim * DTypeBytes(compute.act);
  const int64_t products = spec.map == FeatureMapName::kElementwise ? 2 * dim : dim;
  Scratch scratch;
  scratch.products = arena.Take(spec.Learned() ? products : 0);
  scratch.features = arena.Take(
      NeedsMapping(spec, sum_eps) ? heads * spec.Features() * DTypeBytes(compute.act) : 0);
  return scratch;
}

std::byte* FeatureMapLayer::Forward(const Compute& compute, int32_t heads, float sum_eps,
                                    std::byte* x, const Scratch& scratch) const {
  std::byte* mapped = x;
  if (spec_.Learned()) {
    projection_.Forward(compute, heads, x, spec_.dim, scratch.products, projection_.columns());
    mapped = scratch.products;
  }
  switch (spec_.map) {
    case FeatureMapName::kRelu:
    case FeatureMapName::kT2r:
      Activate(compute, Activation::kRelu, heads, mapped);
      break;
    case FeatureMapName::kElu:
      Activate(compute, Activation::kElu1, heads, mapped);
      break;
    case FeatureMapName::kElementwise:
      ForwardElementwise(compute, heads, x, scratch.products);
      mapped = x;
      break;
    default:
      break;
  }
  if (!NeedsMapping(spec_, sum_eps)) return mapped;
  const bool hedgehog = spec_.map == FeatureMapName::kHedgehog;
  compute.device->MapFeatures({.dtype = compute.act,
                               .kind = KindOf(spec_.map),
                               .rows = heads,
                               .heads = 1,
                               .dim = spec_.dim,
                               .x = mapped,
                               .x_stride = spec_.dim,
                               .bias = hedgehog ? bias_.as<float>() : nullptr,
                               .sum_eps = sum_eps,
                               .y = scratch.features,
                               .y_stride = spec_.Features()});
  return scratch.features;
}

void FeatureMapLayer::Activate(const Compute& compute, Activation act, int32_t heads,
                               std::byte* x) const {
  compute.device->Activate({.dtype = compute.act,
                            .act = act,
                            .rows = heads,
                            .cols = spec_.dim,
                            .x = x,
                            .stride = spec_.dim});
}

void FeatureMapLayer::ForwardElementwise(const Compute& compute, int32_t heads, std::byte* x,
                                         std::byte* products) const {
  const int64_t stride = projection_.columns();
  compute.device->Activate({.dtype = compute.act,
                            .act = Activation::kNone,
                            .rows = heads,
                            .cols = static_cast<int32_t>(stride),
                            .x = products,
                            .stride = stride,
                            .bias = bias_.as<float>()});
  compute.device->GatedUnit({.dtype = compute.act,
                             .rows = heads,
                             .dim = spec_.dim,
                             .act = Activation::kNone,
                             .gate = products,
                             .gate_stride = stride,
                             .up = compute.Column(products, spec_.dim),
                             .up_stride = stride,
                             .out = x,
                             .out_stride = spec_.dim});
}

}  // namespace sluice
