// The counter-based random numbers of the sampler: Philox4x32-10, the same on every device.
//
// The number for (seed, position, token) needs no state and no order: key = {low, high word of
// seed}, counter = {token / 4, position, 0, 0}, and of the four words that come out, word
// token % 4 is the token's.
//
// Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", table 2.
#pragma once

#include <cstdint>

// The one place where a function of ours is compiled for both sides.
#ifdef __CUDACC__
#define SLUICE_HOST_DEVICE __host__ __device__
#else
#define SLUICE_HOST_DEVICE
#endif

namespace sluice {

struct PhiloxWords {
  uint32_t word[4];
};

struct Philox {
  static constexpr uint32_t kMultiply0 = 0xD2511F53;
  static constexpr uint32_t kMultiply1 = 0xCD9E8D57;
  static constexpr uint32_t kWeyl0 = 0x9E3779B9;
  static constexpr uint32_t kWeyl1 = 0xBB67AE85;
  static constexpr int kRounds = 10;

  // The four words of one counter under one key.
  SLUICE_HOST_DEVICE static constexpr PhiloxWords Block(PhiloxWords counter, uint64_t key) {
    uint32_t key0 = static_cast<uint32_t>(key);
    uint32_t key1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < kRounds; ++round) {
      const uint64_t product0 = uint64_t{kMultiply0} * counter.word[0];
      const uint64_t product1 = uint64_t{kMultiply1} * counter.word[2];
      counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.word[1] ^ key0,
                  static_cast<uint32_t>(product1),
                  static_cast<uint32_t>(product0 >> 32) ^ counter.word[3] ^ key1,
                  static_cast<uint32_t>(product0)}};
      key0 += kWeyl0;
      key1 += kWeyl1;
    }
    return counter;
  }

  // The words of tokens 4 * quad .. 4 * quad + 3.
  SLUICE_HOST_DEVICE static constexpr PhiloxWords OfTokens(uint64_t seed, uint32_t position,
                                                           uint32_t quad) {
    return Block({{quad, position, 0, 0}}, seed);
  }
};

// A number in (0, 1), never 0 or 1: the middle of one of 2^23 equal intervals, exact in float32.
SLUICE_HOST_DEVICE constexpr float UniformOpen(uint32_t bits) {
  return static_cast<float>((bits >> 9) * 2 + 1) * 0x1p-24F;
}

}  // namespace sluice
