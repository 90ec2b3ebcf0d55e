#include "engine/state_pool.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace sluice {

absl::StatusOr<std::unique_ptr<StatePool>> StatePool::Create(Device* device, int64_t slot_floats,
                                                             int32_t slots) {
  SLUICE_CHECK(slots > 0 && slot_floats > 0 && slot_floats % 64 == 0);
  DeviceBuffer buffer(device, MemoryBytes(slot_floats, slots));
  if (!buffer.ok()) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "state slots: ", slots, " slots of ", slot_floats * 4, " bytes and a sink need ",
        buffer.bytes(), " bytes; the device has ", device->FreeBytes(), " free"));
  }
  return std::unique_ptr<StatePool>(new StatePool(device, slot_floats, slots, std::move(buffer)));
}

StatePool::StatePool(Device* device, int64_t slot_floats, int32_t slots, DeviceBuffer buffer)
    : device_(device), slot_floats_(slot_floats), buffer_(std::move(buffer)), taken_(slots, false) {
  for (int32_t slot = slots - 1; slot >= 0; --slot) free_.push_back(slot);
  device_->Zero(states() + sink() * slot_floats_, slot_bytes());
}

int32_t StatePool::Acquire() {
  if (free_.empty()) return -1;
  const int32_t slot = free_.back();
  free_.pop_back();
  taken_[slot] = true;
  device_->Zero(states() + slot * slot_floats_, slot_bytes());
  return slot;
}

void StatePool::Release(int32_t slot) {
  SLUICE_CHECK(slot >= 0 && slot < total() && taken_[slot]);
  taken_[slot] = false;
  free_.push_back(slot);
}

bool StatePool::Intact(int32_t owned) const {
  std::vector<bool> seen = taken_;
  for (const int32_t slot : free_) {
    if (slot < 0 || slot >= total() || seen[slot]) return false;
    seen[slot] = true;
  }
  return used() == owned && std::find(seen.begin(), seen.end(), false) == seen.end();
}

}  // namespace sluice
