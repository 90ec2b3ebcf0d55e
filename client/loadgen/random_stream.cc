#include "client/loadgen/random_stream.h"

#include <cmath>

namespace sluice {
namespace {

constexpr uint64_t kStep = 0x9e3779b97f4a7c15U;

uint64_t Mix(uint64_t z) {
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

}  // namespace

RandomStream::RandomStream(uint64_t seed, uint64_t stream)
    : state_(Mix(Mix(seed + kStep) ^ (stream * kStep))) {}

uint64_t RandomStream::Next() {
  state_ += kStep;
  return Mix(state_);
}

double RandomStream::Uniform() { return static_cast<double>(Next() >> 11U) * 0x1.0p-53; }

int64_t RandomStream::Whole(int64_t low, int64_t high) {
  const auto values = static_cast<double>(high - low) + 1.0;
  return low + static_cast<int64_t>(std::floor(Uniform() * values));
}

double RandomStream::Exponential() { return -std::log1p(-Uniform()); }

double RandomStream::Normal() {
  constexpr double kTwoPi = 6.283185307179586;
  const double radius = std::sqrt(2.0 * Exponential());
  return radius * std::cos(kTwoPi * Uniform());
}

}  // namespace sluice
