// A CUDA error ends the process: after a device fault the context cannot be trusted, and CUDA's own
// documentation says that the process must be terminated and relaunched.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/check.h"

#define SLUICE_CUDA_CHECK(expression)                               \
  do {                                                              \
    const cudaError_t sluice_cuda_error = (expression);             \
    if (sluice_cuda_error != cudaSuccess) {                         \
      ::sluice::CheckFailed(__FILE__, __LINE__, #expression,        \
                            cudaGetErrorString(sluice_cuda_error)); \
    }                                                               \
  } while (false)
