// What every layer needs to queue its work: the device, and the formats that it computes with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/device.h"
#include "kernels/state_format.h"

namespace sluice {

struct Compute {
  Compute(Device* on, DType weights, StateFormat states = {})
      : device(on), matrix_dtype(weights), act(on->ActivationType(weights)), state(states) {}

  // So many activations further.
  std::byte* Column(std::byte* base, int64_t column) const {
    return base + column * DTypeBytes(act);
  }
  const std::byte* Column(const std::byte* base, int64_t column) const {
    return base + column * DTypeBytes(act);
  }

  Device* device;      // outlives the layers
  DType matrix_dtype;  // of the weights of products: float32 or bfloat16
  DType act;           // of activations
  StateFormat state;   // of gated recurrences
};

}  // namespace sluice
