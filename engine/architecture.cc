#include "engine/architecture.h"

#include <variant>

#include "engine/models/gla.h"

namespace sluice {
namespace {

struct Maker {
  const Compute& compute;
  Architecture operator()(const GlaConfig& config) const { return MakeGla(config, compute); }
};

}  // namespace

Architecture MakeArchitecture(const ModelConfig& config, const Compute& compute) {
  return std::visit(Maker{compute}, config.family);
}

}  // namespace sluice
