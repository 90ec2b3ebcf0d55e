// Random numbers that depend on a seed and a stream alone, on every machine.
#pragma once

#include <cstdint>

namespace sluice {

// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014). Two
// streams of one seed have nothing to do with each other. Not thread-safe.
class RandomStream {
 public:
  RandomStream(uint64_t seed, uint64_t stream);

  uint64_t Next();
  // In [0, 1).
  double Uniform();
  // In [low, high]. low <= high.
  int64_t Whole(int64_t low, int64_t high);
  // Of mean 1.
  double Exponential();
  // Of mean 0 and standard deviation 1.
  double Normal();

 private:
  uint64_t state_;
};

}  // namespace sluice
