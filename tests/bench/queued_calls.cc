#include "tests/bench/queued_calls.h"

#include <utility>

#if SLUICE_HAS_CUDA
#include "kernels/cuda_check.h"
#include "kernels/cuda_ops.h"
#endif

namespace sluice {
namespace {

class PlainCalls final : public QueuedCalls {
 public:
  explicit PlainCalls(std::function<void()> calls) : calls_(std::move(calls)) {}
  void Run() override { calls_(); }

 private:
  const std::function<void()> calls_;
};

#if SLUICE_HAS_CUDA
class GraphedCalls final : public QueuedCalls {
 public:
  GraphedCalls(cudaStream_t stream, const std::function<void()>& calls) : stream_(stream) {
    SLUICE_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    calls();
    cudaGraph_t graph = nullptr;
    SLUICE_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
    SLUICE_CUDA_CHECK(cudaGraphInstantiate(&graph_, graph, 0));
    SLUICE_CUDA_CHECK(cudaGraphDestroy(graph));
    SLUICE_CUDA_CHECK(cudaGraphUpload(graph_, stream));
    SLUICE_CUDA_CHECK(cudaStreamSynchronize(stream));
  }
  ~GraphedCalls() override { SLUICE_CUDA_CHECK(cudaGraphExecDestroy(graph_)); }
  void Run() override { SLUICE_CUDA_CHECK(cudaGraphLaunch(graph_, stream_)); }

 private:
  cudaStream_t const stream_;
  cudaGraphExec_t graph_ = nullptr;
};
#endif

}  // namespace

std::unique_ptr<QueuedCalls> QueuedCalls::Record(Device& device, std::function<void()> calls) {
#if SLUICE_HAS_CUDA
  if (device.kind() == DeviceKind::kCuda) {
    return std::make_unique<GraphedCalls>(CudaStreamOf(device), calls);
  }
#endif
  (void)device;
  return Plain(std::move(calls));
}

std::unique_ptr<QueuedCalls> QueuedCalls::Plain(std::function<void()> calls) {
  return std::make_unique<PlainCalls>(std::move(calls));
}

}  // namespace sluice
