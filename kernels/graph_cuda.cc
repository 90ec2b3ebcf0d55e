#include "kernels/graph_cuda.h"

#include "kernels/cuda_check.h"

namespace sluice {
namespace {

class Graph : public Recording {
 public:
  explicit Graph(cudaGraphExec_t graph) : graph_(graph) {}
  ~Graph() override { SLUICE_CUDA_CHECK(cudaGraphExecDestroy(graph_)); }

  cudaGraphExec_t get() const { return graph_; }

 private:
  cudaGraphExec_t const graph_;
};

}  // namespace

std::unique_ptr<Recording> RecordGraph(cudaStream_t stream, const std::function<void()>& queue) {
  cudaGraph_t graph = nullptr;
  SLUICE_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  queue();
  SLUICE_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
  cudaGraphExec_t instance = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&instance, graph, 0);
  SLUICE_CUDA_CHECK(cudaGraphDestroy(graph));
  if (error == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();  // It would be reported by the next launch.
    return nullptr;
  }
  SLUICE_CUDA_CHECK(error);
  SLUICE_CUDA_CHECK(cudaGraphUpload(instance, stream));
  return std::make_unique<Graph>(instance);
}

void PlayGraph(const Recording& recording, cudaStream_t stream) {
  SLUICE_CUDA_CHECK(cudaGraphLaunch(static_cast<const Graph&>(recording).get(), stream));
}

}  // namespace sluice
