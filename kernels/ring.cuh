// A ring of stages in shared memory between threads that copy into them and warps that use them.
#pragma once

#include "kernels/bulk_copy.cuh"

namespace sluice {

// What is on its way, and what is in use. Who uses a stage arrives at its `empty`: as many as Init
// was told.
template <typename Stage, int kStages>
struct StageRing {
  Stage stages[kStages];
  Barrier full[kStages];
  Barrier empty[kStages];

  // By one thread, whose block then meets. `fills` and `uses`: arrivals of a phase.
  __device__ void Init(int fills, int uses) {
    for (Barrier& barrier : full) barrier.Init(fills);
    for (Barrier& barrier : empty) barrier.Init(uses);
  }
};

// Goes around a ring: first the stages' phase of `parity`.
template <typename Stage, int kStages>
struct RingCursor {
  StageRing<Stage, kStages>& ring;
  int parity;
  int stages;  // that are used
  int index = 0;

  __device__ auto& stage() { return ring.stages[index]; }
  __device__ Barrier& full() { return ring.full[index]; }
  __device__ Barrier& empty() { return ring.empty[index]; }
  __device__ void Advance() {
    if (++index < stages) return;
    index = 0;
    parity ^= 1;
  }
};
// The stages are empty: their phase before the first one is over.
template <typename Stage, int kStages>
__device__ RingCursor<Stage, kStages> Filling(StageRing<Stage, kStages>& ring,
                                              int stages = kStages) {
  return {ring, 1, stages};
}
template <typename Stage, int kStages>
__device__ RingCursor<Stage, kStages> Draining(StageRing<Stage, kStages>& ring,
                                               int stages = kStages) {
  return {ring, 0, stages};
}

}  // namespace sluice
