// Copies of whole blocks to shared memory by the copy engine (cp.async.bulk), of compute capability
// 9.0 and up, and the barriers in shared memory that say when copies are there.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/mma.cuh"

namespace sluice {

// Counts arrivals and bytes of a phase. One thread calls Init, then all wait for that.
struct Barrier {
  uint64_t word;

  __device__ void Init(int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(SharedAddress(this)),
                 "r"(arrivals)
                 : "memory");
  }
  __device__ void Arrive() {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(SharedAddress(this))
                 : "memory");
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  // Arrives, and the phase lasts until so many bytes are there as well.
  __device__ void ArriveExpecting(int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(SharedAddress(this)),
        "r"(bytes)
        : "memory");
  }
#endif
  // Arrives once the copies that the thread has started (CopyAsync) are there.
  __device__ void ArriveWithCopies() {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(SharedAddress(this))
                 : "memory");
  }
  // Waits for the end of the phase of this parity: 0 of the first one, then in turn.
  __device__ void Wait(int parity) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define SLUICE_BARRIER_WAIT "mbarrier.try_wait"  // sleeps a while
#else
#define SLUICE_BARRIER_WAIT "mbarrier.test_wait"
#endif
    asm volatile("{\n.reg .pred p;\nagain:\n" SLUICE_BARRIER_WAIT
                 ".parity.shared::cta.b64 p, [%0], %1;\n"
                 "@!p bra again;\n}\n" ::"r"(SharedAddress(this)),
                 "r"(parity)
                 : "memory");
#undef SLUICE_BARRIER_WAIT
  }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// Starts copying; addresses and size are multiples of 16 bytes. The bytes count for `barrier`.
__device__ inline void BulkCopy(void* to_shared, const void* from, int bytes, Barrier& barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::
          "r"(SharedAddress(to_shared)),
      "l"(from), "r"(bytes), "r"(SharedAddress(&barrier))
      : "memory");
}

// Makes barriers that were just initialised known to the copy engine.
__device__ inline void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

#endif

}  // namespace sluice
