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

bool KernelsStartEarly() {
  // Asked for once: the GPUs of a machine are of one kind. Code of an older architecture holds no
  // waits, also where the driver translates it for a newer GPU.
  static const bool answer = [] {
    cudaFuncAttributes attributes;
    return ProbeAttributes(&attributes) == cudaSuccess && attributes.ptxVersion >= 90;
  }();
  return answer;
}

}  // namespace sluice
