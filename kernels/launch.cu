#include "kernels/launch.cuh"

#include "kernels/cuda_ops.h"

namespace sluice {
namespace {

// Stands for all kernels of this build, which are compiled for the same architectures.
__global__ void ProbeKernel() {}

cudaError_t ProbeAttributes(cudaFuncAttributes* attributes) {
  const cudaError_t error = cudaFuncGetAttributes(attributes, ProbeKernel);
  (void)cudaGetLastError();  // A failed look-up would otherwise be reported by the next launch.
  return error;
}

int32_t AskDevice(cudaDeviceAttr attribute) {
  int device = 0;
  int value = 0;
  SLUICE_CUDA_CHECK(cudaGetDevice(&device));
  SLUICE_CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device));
  return value;
}

}  // namespace

cudaError_t CudaKernelImageError() {
  cudaFuncAttributes attributes;
  return ProbeAttributes(&attributes);
}

// All are asked for once: the GPUs of a machine are of one kind.

bool KernelsStartEarly() {
  // Code of an older architecture holds no waits, also where the driver translates it for a newer
  // GPU.
  static const bool answer = [] {
    cudaFuncAttributes attributes;
    return ProbeAttributes(&attributes) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return answer;
}

bool HasWarpgroupProducts() {
#ifdef SLUICE_HAS_SM90A
  static const bool answer = AskDevice(cudaDevAttrComputeCapabilityMajor) == 9 &&
                             AskDevice(cudaDevAttrComputeCapabilityMinor) == 0;
  return answer;
#else
  return false;
#endif
}

// The code that waits is the code that knows clusters.
int32_t LargestCluster() { return KernelsStartEarly() ? 8 : 1; }

ClusterRoom::ClusterRoom(const void* kernel, const LaunchShape& shape) {
  if (shape.shared_bytes > kPlainSharedBytes) AllowShared(kernel, shape.shared_bytes);
  for (int32_t blocks = 1; blocks <= kMostBlocks; ++blocks) {
    room_[blocks - 1] = 0;
    if (blocks > LargestCluster()) continue;
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = blocks;
    config.blockDim = shape.threads;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.attrs = &cluster;
    config.numAttrs = 1;
    SLUICE_CUDA_CHECK(cudaOccupancyMaxActiveClusters(&room_[blocks - 1], kernel, &config));
  }
}

int32_t MultiprocessorCount() {
  static const int32_t count = AskDevice(cudaDevAttrMultiProcessorCount);
  return count;
}

size_t LargestSharedBytes() {
  static const size_t bytes = AskDevice(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  return bytes;
}

// As much as there is, whatever was asked for: launches of other threads ask for other amounts.
void AllowShared(const void* kernel, size_t bytes) {
  cudaFuncAttributes attributes;
  SLUICE_CUDA_CHECK(cudaFuncGetAttributes(&attributes, kernel));
  if (static_cast<size_t>(attributes.maxDynamicSharedSizeBytes) >= bytes) return;
  const size_t most = LargestSharedBytes() - attributes.sharedSizeBytes;
  SLUICE_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(most)));
}

}  // namespace sluice
