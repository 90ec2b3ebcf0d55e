#include "tests/kernels/state_image.h"

#include <cmath>
#include <cstring>

#include "tests/kernels/replay_ref.h"

namespace sluice {
namespace {

uint16_t Float16Bits(double x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::abs(x);
  const double tiny = std::ldexp(size, 24);  // a whole number below 2^-14
  if (size < 0x1p-14) return static_cast<uint16_t>(sign | static_cast<uint16_t>(tiny));
  const int exponent = std::ilogb(size);
  const auto mantissa = static_cast<uint16_t>(std::ldexp(size, 10 - exponent) - 1024);
  return static_cast<uint16_t>(sign | ((exponent + 15) << 10) | mantissa);
}

double OfFloat16Bits(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double size = exponent == 0    ? std::ldexp(mantissa, -24)
                      : exponent == 31 ? std::nan("")
                                       : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -size : size;
}

// Element `index` of the array of T that begins at unit `at` of the slot.
template <typename T>
void Put(std::vector<float>* slot, int64_t at, int64_t index, T value) {
  std::memcpy(reinterpret_cast<char*>(slot->data() + at) + index * sizeof(T), &value, sizeof(T));
}
template <typename T>
T Take(const std::vector<float>& slot, int64_t at, int64_t index) {
  T value;
  std::memcpy(&value, reinterpret_cast<const char*>(slot.data() + at) + index * sizeof(T),
              sizeof(T));
  return value;
}

double Stored(const GatedShape& shape, const std::vector<float>& slot, int64_t row, int64_t d) {
  const int64_t index = row * shape.value_dim + d;
  switch (shape.state.type) {
    case StateType::kFloat32:
      return Take<float>(slot, 0, index);
    case StateType::kFloat16:
      return OfFloat16Bits(Take<uint16_t>(slot, 0, index));
    case StateType::kInt8:
      return double{Take<float>(slot, shape.Parts().scales, row)} * Take<int8_t>(slot, 0, index);
  }
  return std::nan("");
}

}  // namespace

std::vector<float> PackState(const GatedShape& shape, const std::vector<float>& matrix) {
  std::vector<float> slot(shape.StateFloats());
  std::vector<double> rounded(matrix.begin(), matrix.end());
  ref::RoundMatrix(shape.state.type, shape.value_dim, &rounded);
  for (int64_t row = 0; row < int64_t{shape.kv_heads} * shape.key_dim; ++row) {
    double largest = 0;
    for (int64_t d = 0; d < shape.value_dim; ++d) {
      largest = std::fmax(largest, std::abs(rounded[row * shape.value_dim + d]));
    }
    const auto scale = static_cast<float>(largest / 127);
    if (shape.state.type == StateType::kInt8) Put(&slot, shape.Parts().scales, row, scale);
    for (int64_t d = 0; d < shape.value_dim; ++d) {
      const int64_t index = row * shape.value_dim + d;
      const double x = rounded[index];
      if (shape.state.type == StateType::kFloat32) {
        Put(&slot, 0, index, static_cast<float>(x));
      } else if (shape.state.type == StateType::kFloat16) {
        Put(&slot, 0, index, Float16Bits(x));
      } else {
        Put(&slot, 0, index, static_cast<int8_t>(scale == 0 ? 0 : std::nearbyint(x / scale)));
      }
    }
  }
  return slot;
}

int32_t HeldTokens(const GatedShape& shape, const std::vector<float>& slot, int64_t head) {
  return shape.state.ring == 0 ? 0 : Take<int32_t>(slot, shape.Parts().counts, head);
}

std::vector<double> UnpackState(const GatedShape& shape, const std::vector<float>& slot) {
  const StateParts parts = shape.Parts();
  const int64_t key_dim = shape.key_dim;
  const int64_t value_dim = shape.value_dim;
  const int64_t held = shape.state.Held();
  std::vector<double> state(shape.StateSize());
  for (int64_t row = 0; row < shape.kv_heads * key_dim; ++row) {
    const int64_t head = row / key_dim;
    const int64_t c = row % key_dim;
    const double key_sum = shape.state.ring > 0 ? slot[parts.log_decay + row] : 0;
    for (int64_t d = 0; d < value_dim; ++d) {
      const bool gated = shape.state.ring > 0 && shape.value_gate;
      const double value_sum = gated ? slot[parts.value_log_decay + head * value_dim + d] : 0;
      double sum = Stored(shape, slot, row, d);
      for (int64_t j = 0; j < HeldTokens(shape, slot, head); ++j) {
        sum += double{slot[parts.keys + (head * held + j) * key_dim + c]} *
               slot[parts.values + (head * held + j) * value_dim + d];
      }
      state[row * value_dim + d] = sum * std::exp(key_sum) * std::exp(value_sum);
    }
  }
  return state;
}

}  // namespace sluice
