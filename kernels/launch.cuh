// How kernels are launched. On compute capability 9.0 and up a kernel may start before
// the one queued before it has ended (programmatic dependent launch): its blocks take their places,
// and may fetch what no kernel writes, while the other one still works.
//
// So every kernel launched here calls AwaitEarlierKernels in all its threads before any of them
// returns or touches memory that another kernel reads or writes. Since each kernel of a stream
// waits for the one before it, whoever has waited finds all of them done.
//
// Weights alone may be read before the wait: they are written by copies from the host, behind which
// a stream starts nothing early, and by no kernel. Who writes such memory by a kernel must queue a
// copy or a Zero, or synchronise, before a kernel that takes it for weights; float8 weights that
// are widened go to the library alone, whose kernels start when those before have ended.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda_check.h"

namespace sluice {

// Lets the next kernel's blocks start as soon as all of this one's have, if there is room. They
// wait for the end of this kernel nevertheless, so the first line of a kernel is the place for it.
__device__ inline void AllowNextKernel() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Returns when every kernel queued before has ended and what it wrote can be read.
__device__ inline void AwaitEarlierKernels() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Both: the first line of every kernel that fetches nothing ahead.
__device__ inline void EnterStream() {
  AllowNextKernel();
  AwaitEarlierKernels();
}

// More has to be asked for: 48 KB, less what a kernel may declare beside it.
constexpr size_t kPlainSharedBytes = 38 << 10;

struct LaunchShape {
  dim3 blocks;
  dim3 threads;             // of a block
  size_t shared_bytes = 0;  // of a block, beyond what the kernel declares
  uint32_t cluster = 1;     // neighbours along x that run together; at most LargestCluster
};

// Whether kernels may start early on this process's GPU: it can, and runs code that waits.
bool KernelsStartEarly();

// Blocks that may form a cluster on this process's GPU: 8, or 1 where there are no clusters.
int32_t LargestCluster();

// How many clusters of a kernel run at once: fewer than its blocks would, as those of a cluster
// share a part of the GPU. The driver is asked once; the kernel may then have the
// shape's shared memory.
class ClusterRoom {
 public:
  // `shape` is that of the cluster's blocks; its own cluster does not matter.
  ClusterRoom(const void* kernel, const LaunchShape& shape);
  // Of clusters of `blocks` blocks, 1 to LargestCluster.
  int32_t Of(int32_t blocks) const { return room_[blocks - 1]; }

 private:
  static constexpr int32_t kMostBlocks = 8;
  int32_t room_[kMostBlocks];
};

// Of this process's GPU.
int32_t MultiprocessorCount();

// That a block may have on this process's GPU.
size_t LargestSharedBytes();

// Lets a kernel's blocks have so much shared memory beyond what it declares, or more.
void AllowShared(const void* kernel, size_t bytes);

// Queues the kernel; a launch that fails ends the process.
template <typename... Params, typename... Args>
void LaunchKernel(const LaunchShape& shape, cudaStream_t stream, void (*kernel)(Params...),
                  const Args&... args) {
  cudaLaunchAttribute attributes[2] = {};
  unsigned attribute_count = 0;
  if (KernelsStartEarly()) {
    cudaLaunchAttribute& early = attributes[attribute_count++];
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
  }
  if (shape.cluster > 1) {
    cudaLaunchAttribute& cluster = attributes[attribute_count++];
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {shape.cluster, 1, 1};
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.blocks;
  config.blockDim = shape.threads;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = attribute_count;
  if (shape.shared_bytes > kPlainSharedBytes) {
    AllowShared(reinterpret_cast<const void*>(kernel), shape.shared_bytes);
  }
  SLUICE_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, args...));
}

}  // namespace sluice
