// Hands out parts of a block of scratch memory, one after the other, each 256-aligned.
//
// Without memory it only measures, so that the same function says how much a layer needs and where
// its parts lie.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/check.h"

namespace sluice {

class ScratchArena {
 public:
  // Measures.
  ScratchArena() = default;
  ScratchArena(std::byte* base, int64_t bytes) : base_(base), bytes_(bytes) {}

  // Null while measuring. Taking more than there is ends the process.
  template <typename T = std::byte>
  T* Take(int64_t bytes) {
    const int64_t at = used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (base_ == nullptr) return nullptr;
    SLUICE_CHECK(used_ <= bytes_);
    return reinterpret_cast<T*>(base_ + at);
  }

  int64_t used() const { return used_; }

 private:
  static constexpr int64_t kAlignment = 256;

  std::byte* base_ = nullptr;
  int64_t bytes_ = 0;
  int64_t used_ = 0;
};

}  // namespace sluice
