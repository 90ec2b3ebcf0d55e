// Random numbers that are the same on every machine.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/dtype.h"
#include "tests/kernels/guarded_memory.h"

namespace sluice {

// SplitMix64 (Steele et al. 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    state_ += 0x9E3779B97F4A7C15;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
  }
  int32_t Below(int32_t end) { return static_cast<int32_t>(Next() % static_cast<uint64_t>(end)); }
  // In (0, 1).
  double Uniform() { return (static_cast<double>(Next() >> 11) + 0.5) * 0x1p-53; }
  double Normal() {
    return std::sqrt(-2.0 * std::log(Uniform())) * std::cos(6.283185307179586 * Uniform());
  }

  std::vector<float> Normals(int64_t count, double deviation = 1.0) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(deviation * Normal());
    return values;
  }
  // Rounded to what `dtype` can hold.
  std::vector<float> Normals(int64_t count, double deviation, DType dtype) {
    return Rounded(Normals(count, deviation), dtype);
  }
  std::vector<float> Uniforms(int64_t count, double low, double high) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = static_cast<float>(low + (high - low) * Uniform());
    return values;
  }
  std::vector<int32_t> Integers(int64_t count, int32_t end) {
    std::vector<int32_t> values(static_cast<size_t>(count));
    for (int32_t& value : values) value = Below(end);
    return values;
  }

 private:
  uint64_t state_;
};

}  // namespace sluice
