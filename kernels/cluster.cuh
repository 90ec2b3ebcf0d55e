// Clusters: blocks that run together and reach each other's shared memory. Below compute capability
// 9.0 a cluster is one block.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/mma.cuh"

namespace sluice {

constexpr int kMaxCluster = 8;  // blocks

// All threads of the cluster have come, and see what each wrote before to any block's shared
// memory. In two halves, between which a thread may do what needs no other. A block must not end,
// nor touch another's memory, before the others have come.
__device__ inline void ArriveCluster(int32_t blocks) {
#if __CUDA_ARCH__ >= 900
  if (blocks > 1) asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}
// The same of who has written nothing that another block reads: it has started, or has read. It
// does not wait for the thread's loads: what it has loaded must have been used before.
__device__ inline void ArriveClusterUnwritten([[maybe_unused]] int32_t blocks) {
#if __CUDA_ARCH__ >= 900
  if (blocks > 1) asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
#endif
}
__device__ inline void WaitCluster(int32_t blocks) {
#if __CUDA_ARCH__ >= 900
  if (blocks > 1) {
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
    return;
  }
#endif
  __syncthreads();
}
__device__ inline void SyncCluster(int32_t blocks) {
  ArriveCluster(blocks);
  WaitCluster(blocks);
}

// The same variable in the shared memory of another block of the cluster.
template <typename T>
__device__ inline T* InBlock(T* shared, int32_t rank) {
#if __CUDA_ARCH__ >= 900
  uint64_t mapped;
  asm("mapa.u64 %0, %1, %2;" : "=l"(mapped) : "l"(reinterpret_cast<uint64_t>(shared)), "r"(rank));
  return reinterpret_cast<T*>(mapped);
#else
  return shared;
#endif
}

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

// An address of this block's shared memory, in another block of the cluster.
__device__ inline uint32_t AddressInBlock(const void* shared, int32_t rank) {
  uint32_t mapped;
  asm("mapa.shared::cluster.u32 %0, %1, %2;"
      : "=r"(mapped)
      : "r"(SharedAddress(shared)), "r"(rank));
  return mapped;
}

// Store into another block's shared memory; the bytes count for its barrier (bulk_copy.cuh). Who
// has waited for that sees them; it does not wait for what else the thread has stored.
__device__ inline void StoreInBlock(uint32_t to, float4 x, uint32_t barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1,%2,%3,%4}, [%5];\n" ::
          "r"(to),
      "f"(x.x), "f"(x.y), "f"(x.z), "f"(x.w), "r"(barrier)
      : "memory");
}
__device__ inline void StoreInBlock(uint32_t to, float x, uint32_t barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];\n" ::"r"(to),
      "f"(x), "r"(barrier)
      : "memory");
}

#endif

}  // namespace sluice
