// The recurrent states of all running sequences: fixed slots in one block of device memory.
//
// A slot holds one sequence's whole state, layer after layer, so that copying a state is one copy.
// It is zeroed when it is handed out: a state never shows through to the next owner. Used by the
// engine thread alone.
//
// One slot more, the sink, is never handed out: rows that only fill up a batch have it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/device_buffer.h"

namespace sluice {

class StatePool {
 public:
  // `slot_floats`: floats of one slot, a multiple of 64. ResourceExhausted if the device has not
  // that much memory. `device` outlives the pool.
  static absl::StatusOr<std::unique_ptr<StatePool>> Create(Device* device, int64_t slot_floats,
                                                           int32_t slots);

  // Bytes that Create takes.
  static int64_t MemoryBytes(int64_t slot_floats, int32_t slots) {
    return slot_floats * 4 * (int64_t{slots} + 1);
  }

  // A zeroed slot, or -1 if all are taken.
  int32_t Acquire();
  // `slot` was acquired and not yet released; anything else ends the process.
  void Release(int32_t slot);

  // Slot s lies at states() + s * slot_floats().
  float* states() const { return buffer_.as<float>(); }
  int64_t slot_floats() const { return slot_floats_; }
  int64_t slot_bytes() const { return slot_floats_ * 4; }
  int32_t total() const { return static_cast<int32_t>(taken_.size()); }
  int32_t sink() const { return total(); }
  int32_t used() const { return total() - static_cast<int32_t>(free_.size()); }

  // Whether every slot is either free, once, or taken, and `owned` of them are taken. Looked at
  // whenever the engine falls idle: a leak ends the process instead of eating slots unseen.
  bool Intact(int32_t owned) const;

 private:
  StatePool(Device* device, int64_t slot_floats, int32_t slots, DeviceBuffer buffer);

  Device* device_;
  int64_t slot_floats_;
  DeviceBuffer buffer_;
  std::vector<int32_t> free_;  // the last one is handed out next
  std::vector<bool> taken_;
};

}  // namespace sluice
