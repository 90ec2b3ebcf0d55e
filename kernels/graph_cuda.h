// Recordings of a CUDA stream: graphs.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "kernels/device.h"

namespace sluice {

// See Device::Record. What the graph takes of the GPU's memory is taken here.
std::unique_ptr<Recording> RecordGraph(cudaStream_t stream, const std::function<void()>& queue);
// Queues all that was recorded.
void PlayGraph(const Recording& recording, cudaStream_t stream);

}  // namespace sluice
