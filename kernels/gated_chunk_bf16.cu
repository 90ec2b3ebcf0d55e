#include "kernels/gated_chunk_bf16.cuh"

namespace sluice {

void GatedChunkBFloat16(const ChunkParams& params, cudaStream_t stream) {
  PrepareBFloat16(params, stream);
  StatesBFloat16(params, stream);
  OutputBFloat16(params, stream);
}

}  // namespace sluice
