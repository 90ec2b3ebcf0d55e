// The names that configurations call elementwise functions by.
#pragma once

#include <cstdint>

#include "engine/json.h"
#include "kernels/activation.h"

namespace sluice {

// Whose ACT2FN a name is looked up in: that of fla/modules/activations.py (0.6.0) or that of
// transformers/activations.py. They share most names but not all, and mean two forms by "gelu".
enum class ActivationNames : uint8_t { kFla, kTransformers };

// The function that `key` names; kNone for an absent or null key. Refuses a name that the library
// has not, or that no kernel has.
Activation ReadActivation(JsonReader& reader, const char* key, ActivationNames names);

}  // namespace sluice
