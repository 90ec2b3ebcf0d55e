// Hands out parts of a block of scratch memory, one after the other, each 256-aligned.
//
// Over no memory it only measures, so that the same function says how much a layer needs and where
// its parts lie.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sluice {

class ScratchArena {
 public:
  ScratchArena() = default;
  explicit ScratchArena(std::byte* base) : base_(base) {}

  // Null while measuring.
  template <typename T = std::byte>
  T* Take(int64_t bytes) {
    const int64_t at = used_;
    used_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + at);
  }

  int64_t used() const { return used_; }

 private:
  static constexpr int64_t kAlignment = 256;

  std::byte* base_ = nullptr;
  int64_t used_ = 0;
};

}  // namespace sluice
