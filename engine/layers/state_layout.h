// Where the parts of one layer's state lie in a slot: matrices, windows, shifted tokens.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

struct StatePart {
  std::string name;
  int64_t floats;  // units of 4 bytes
  int64_t offset;  // in the same, from the layer's part of the slot
};

// All state starts out zero, and is float32 but for what state_format.h has. Parts are 64 floats
// (256 bytes) apart or more.
class StateLayout {
 public:
  // Adds a part and returns its offset.
  int64_t Add(std::string name, int64_t floats) {
    const int64_t offset = floats_;
    parts_.push_back({std::move(name), floats, offset});
    floats_ += (floats + kAlignment - 1) / kAlignment * kAlignment;
    return offset;
  }

  const std::vector<StatePart>& parts() const { return parts_; }
  int64_t floats() const { return floats_; }

 private:
  static constexpr int64_t kAlignment = 64;

  std::vector<StatePart> parts_;
  int64_t floats_ = 0;
};

}  // namespace sluice
