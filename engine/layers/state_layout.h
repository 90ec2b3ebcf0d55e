// Where the parts of one layer's state lie in a slot: matrices, windows, shifted tokens.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sluice {

struct StatePart {
  std::string name;
  int64_t floats;
  int64_t offset;  // in floats, from the layer's part of the slot
};

// All state is float32 and starts out zero. Parts are 64 floats (256 bytes) apart or more.
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
