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

}  // namespace

cudaError_t CudaKernelImageError() {
  cudaFuncAttributes attributes;
  return ProbeAttributes(&attributes);
}

// Both are asked for once: the GPUs of a machine are of one kind.

bool KernelsStartEarly() {
  // Code of an older architecture holds no waits, also where the driver translates it for a newer
  // GPU.
  static const bool answer = [] {
    cudaFuncAttributes attributes;
    return ProbeAttributes(&attributes) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return answer;
}

int32_t MultiprocessorCount() {
  static const int32_t count = [] {
    int device = 0;
    int multiprocessors = 0;
    SLUICE_CUDA_CHECK(cudaGetDevice(&device));
    SLUICE_CUDA_CHECK(
        cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
    return multiprocessors;
  }();
  return count;
}

}  // namespace sluice
